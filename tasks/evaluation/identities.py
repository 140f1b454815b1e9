"""The training heads that generated heads are most similar to, which shows whether a model repeats training heads.

The identity of a generated head is the normalised mean of the embeddings of its pictures that show the face. A model
that repeats a training head is nearer to that one than to the held-out head that it was asked for.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from spinmeround.models.metrics.missing import Missing
from spinmeround.storage.dataset import HeadDataset
from spinmeround.tasks.evaluation.evaluator import Evaluator
from spinmeround.tasks.evaluation.heads import ScoredHead
from spinmeround.tasks.evaluation.params import EvaluateParams


def nearest_training_heads(
    data: HeadDataset, evaluator: Evaluator, heads: Sequence[ScoredHead], params: EvaluateParams
) -> dict[str, Any]:
    """The field `identities` of an `EvaluationResult`, of the model's prediction."""
    training = data.split("train") if params.split == "held-out" else []
    if not training:
        return {"heads": [], "missing": "the training heads are not in this dataset"}
    known = data.identities[training].astype(np.float64)
    known /= np.maximum(np.linalg.norm(known, axis=1, keepdims=True), 1e-12)
    found, reason = [], ""
    for head in heads:
        identity = evaluator.generated_identity(head.views, head.generated)
        if isinstance(identity, Missing):
            reason = reason or f"{head.id}: {identity.reason}"
            continue
        own = data.identities[head.views.subject].astype(np.float64)
        own /= max(float(np.linalg.norm(own)), 1e-12)
        of_generated, of_true = known @ identity, known @ own
        nearest = int(np.argmax(of_generated))
        found.append(
            {
                "id": head.id,
                "own": float(own @ identity),
                "nearest": data.ids[training[nearest]],
                "nearest_similarity": float(of_generated[nearest]),
                "true_nearest_similarity": float(of_true.max()),
            }
        )
    return {"heads": found, "missing": "" if found else reason}
