"""The base that a job's run has chosen, written to the job and its model. Until then `auto` stands for it in both."""

from __future__ import annotations

from dataclasses import replace

from models.backbones.registry import AUTO
from models.identifiers import full_model_name
from models.learning.contract.events import BaseChosen
from models.records import changes, job_events, outcomes, versions
from models.services import model_base
from models.services.claims import Claim, hold
from models.services.errors import BaseSettled
from models.services.resources import Resources


def keep(resources: Resources, claim: Claim, chosen: BaseChosen) -> Claim:
    """Write the base to the job and its model, and what the probes measured; return the claim with both.

    Once per job: repeated, it changes nothing. Raises LeaseLost, and BaseSettled if another job was first; the next
    attempt follows that.
    """
    with resources.database.transaction() as session:
        job = hold(session, resources, claim)
        model = versions.lock_model(session, claim.model.id)
        if model is not None and job.base_model == AUTO:
            if model.base_model != chosen.base and model_base.is_settled(session, job, model):
                raise BaseSettled(name=model.name, present=model.base_model, chosen=chosen.base)
            job.base_model, job.base_choice = chosen.base, chosen.describe()
            model.base_model = chosen.base
            model.full_name = full_model_name(chosen.base, claim.customer.name, model.name)
            changes.record(session, "model", job.customer_id, model.name)
            text = f"The base model is {chosen.base}. {chosen.reason}"
            job_events.add(session, job.id, text, data=job.base_choice)
            if resources.settings.experience and chosen.outcomes:
                outcomes.add(session, chosen.reference, chosen.outcomes)
        session.flush()
    return replace(claim, job=job, model=model or claim.model)
