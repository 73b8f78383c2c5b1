"""``mlm-spec train``: text in, a model out, by the session of any backend.

    text ─ documents ─ vocabulary ─ store (ids on disk) ─ windows ─ batches of tokens
        ─ the backend's session (it masks, computes, updates) ─ metrics, checkpoint, model

The backend computes all numbers of a run; what is here chooses the text, cuts it, and keeps books.
"""

from __future__ import annotations

__all__: list[str] = []
