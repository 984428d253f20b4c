"""From a claim to a request that the trainer understands: local paths, plain values, nothing of any database."""

from __future__ import annotations

from dataclasses import fields

from models.learning.contract.request import DatasetSource, Hyperparameters, TrainRequest
from models.records.files import File
from models.services import experience
from models.services.claims import Claim
from models.services.resources import Resources
from worker.patience import Patience
from worker.workspace import Workspace


def prepare(resources: Resources, claim: Claim, workspace: Workspace, patience: Patience) -> TrainRequest:
    """Make the folders, fetch the data sets, write the request. Raises DatasetCorrupt, Unavailable, OSError."""
    workspace.create()

    def fetch(file: File) -> DatasetSource:
        path = patience.persist(lambda: workspace.fetch(resources.store, file))
        return DatasetSource(path, file.profile["format"], file.profile["columns"], file.sha256)

    job, settings = claim.job, resources.settings
    known = {field.name for field in fields(Hyperparameters)}
    return TrainRequest(
        training=fetch(claim.training_file),
        validation=fetch(claim.validation_file) if claim.validation_file is not None else None,
        task=job.task,
        output_dir=workspace.output,
        base_model=job.base_model,
        strategy=job.strategy,  # type: ignore[arg-type]  # checked when the job was submitted
        hyperparameters=Hyperparameters(
            **{name: job.hyperparameters[name] for name in known & set(job.hyperparameters)}
        ),
        seed=job.seed,
        device=settings.device,
        precision=settings.precision,
        threads=settings.threads,
        refine_budget_s=settings.refine_budget_s,
        feature_cache_dir=workspace.features,
        checkpoint_dir=workspace.checkpoints,
        experience=patience.persist(lambda: experience.earlier(resources, job)),
    )
