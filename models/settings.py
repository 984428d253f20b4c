"""All settings, in one class. Environment prefix `GRAFT_`; embedded and production deployments differ here only."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, SettingsConfigDict

ADMIN_KEY_CHARS = 32  # the fewest


class Settings(BaseSettings):
    """Every setting of Graft with its default, its unit and its meaning."""

    # A wrong value may be a secret: errors name the variable and what is wrong with it.
    model_config = SettingsConfigDict(env_prefix="GRAFT_", extra="ignore", frozen=True, hide_input_in_errors=True)

    # Database, queue, object store and folders
    data_dir: Path = Field(
        Path("graft-data"), description="Folder for everything that is local: SQLite, objects, caches."
    )
    database_url: str = Field("", description="SQLAlchemy URL; empty: SQLite in data_dir.")
    broker_url: str = Field("redis://127.0.0.1:6379/0", description="Redis or Valkey, for Celery.")
    object_store: str = Field("", description="s3://bucket/prefix, or a folder; empty: a folder in data_dir.")
    s3_endpoint_url: str | None = Field(None, description="Endpoint of an S3-compatible server; empty: AWS.")
    s3_region: str = Field("us-east-1", description="Region of the bucket.")
    s3_access_key_id: SecretStr | None = Field(None, description="Empty: boto3's own search for credentials.")
    s3_secret_access_key: SecretStr | None = Field(None, description="Belongs to the access key.")

    # Access and limits
    admin_key: SecretStr | None = Field(
        None, description="The operator's key, 32 characters at least. `graft up` makes one if there is none."
    )
    rate_limit: str = Field("6000/minute", description="Requests per customer and process, in the syntax of `limits`.")
    failed_logins: str = Field(
        "120/minute", description="Wrong keys per address and process, then 429 for unknown keys; as `rate_limit`."
    )
    metrics_token: SecretStr | None = Field(
        None, description="Bearer token that `/metrics` of the API asks for; empty: everybody may read it."
    )
    upload_limit_bytes: int = Field(512 * 2**20, ge=1, description="Largest file that is accepted.")
    body_limit_bytes: int = Field(8 * 2**20, ge=1, description="Largest JSON body.")
    max_rows: int = Field(2_000_000, ge=1, description="Most rows in one file.")
    max_classes: int = Field(1_000, ge=2, description="Most classes in one data set.")
    max_text_chars: int = Field(100_000, ge=1, description="Longest text in one row.")
    max_label_chars: int = Field(256, ge=1, description="Longest label.")
    uploads_per_customer: int = Field(16, ge=1, description="Uploads of one customer under way at a time; 429 beyond.")
    validation_processes: int = Field(0, ge=0, description="Processes that read uploads; 0: half of the cores, 2 to 8.")
    validation_seconds: float = Field(
        300.0, gt=0, description="Computing time that reading one file may take; five times as long by the clock."
    )
    validation_memory_bytes: int = Field(
        2 * 2**30, ge=2**28, description="Memory of one process that reads uploads, where the system enforces it."
    )
    max_columns: int = Field(2_000, ge=1, description="Most columns of one file.")
    max_unpacked_bytes: int = Field(2 * 2**30, ge=1, description="What the rows of one file may unpack to.")
    max_pixels: int = Field(40_000_000, ge=1, description="Largest picture.")
    max_seconds: float = Field(60.0, gt=0, description="Longest sound.")
    max_unfinished_jobs: int = Field(100, ge=1, description="Jobs of one customer that may wait or run at a time.")
    quota_stored_bytes: int = Field(50 * 2**30, ge=0, description="Bytes of files and versions of one customer.")
    quota_files: int = Field(10_000, ge=0, description="Files of one customer.")
    quota_models: int = Field(1_000, ge=0, description="Models of one customer.")
    quota_keys: int = Field(100, ge=0, description="Valid keys of one customer.")
    quota_jobs_per_day: int | None = Field(None, ge=0, description="Jobs of one customer in 24 hours; empty: no limit.")
    quota_training_seconds_per_month: int | None = Field(
        None, ge=0, description="Seconds that workers train for one customer in a month (UTC); empty: no limit."
    )
    audit_keep_days: int | None = Field(
        None, ge=30, description="Days that actions stay in the audit log, 30 at least; empty: for ever."
    )
    max_inputs: int = Field(2_048, ge=1, description="Most inputs in one predict request.")

    # The API
    role: Literal["all", "api", "predictor"] = Field("all", description="Which routes this process serves.")
    host: str = Field("127.0.0.1", description="Address that `graft up` listens on.")
    port: int = Field(8000, description="Port that `graft up` listens on.")
    standby: bool = Field(
        True, description="Whether `graft up` keeps a second API imported (230 MB), which takes over when one dies."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="debug, info, warning, error.")
    log_format: Literal["console", "json"] = Field("json", description="json, or console for people.")
    cors_origins: str = Field("", description="Origins whose pages may call the API, separated by commas; empty: none.")
    public_url: str = Field("", description="Where users reach the API, for links; empty: the request's own.")

    # Connections
    trusted_proxies: str = Field(
        "127.0.0.1,::1",
        description="Addresses or networks, separated by commas, whose `X-Forwarded-For` is believed; or none.",
    )
    header_timeout_s: float = Field(
        10.0, gt=0, description="A request's headers arrive within so long, or it gets 408."
    )
    body_timeout_s: float = Field(
        30.0, gt=0, description="In each so long a body brings `body_bytes_per_s` times as much, or it gets 408."
    )
    body_bytes_per_s: float = Field(1_000.0, ge=0, description="The slowest body: below a modem's 2,000.")
    idle_timeout_s: float = Field(
        65.0,
        gt=0,
        description="A connection without a request, or whose client reads nothing of its answer, is closed after so "
        "long: later than proxies close theirs (60).",
    )
    max_connections: int = Field(4_000, ge=1, description="Connections to one process; 503 beyond.")
    max_connections_per_address: int = Field(
        512,
        ge=1,
        description="Connections of one address that is no trusted proxy, and requests under way of one that a trusted "
        "proxy forwards; 429 beyond.",
    )
    max_streams: int = Field(200, ge=1, description="Event streams of one customer to one process; 429 beyond.")
    max_streams_per_key: int = Field(100, ge=1, description="Event streams of one key to one process; 429 beyond.")

    # Base models
    base_model: str = Field("minilm", description="The base model of jobs and embeddings that name none.")
    generation_base_model: str = Field(
        "smollm2", description="The base model of `text-generation` jobs that name none."
    )
    base_models_file: Path | None = Field(
        None, description="JSON file with further base models; empty: base-models.json in data_dir, if it is there."
    )
    device: str = Field("auto", description="auto, cpu, cuda, cuda:1, …")
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto", description="Of the frozen base; auto: bf16 where it is fast."
    )
    threads: int = Field(0, ge=0, description="Compute threads of one process; 0: the number of cores.")

    # Serving
    adapter_memory_bytes: int = Field(
        512 * 2**20, ge=1, description="Adapters kept in memory: the GPU's, where the base is on one."
    )
    adapter_disk_bytes: int = Field(10 * 2**30, ge=1, description="Adapters that each predictor keeps on local disk.")
    batch_tokens: int = Field(8_192, ge=1, description="Token budget of one pass through the base.")
    queue_per_customer: int = Field(4_096, ge=1, description="Rows one customer may have waiting; 429 beyond.")
    generation_memory_bytes: int = Field(
        2**30, ge=1, description="Keys and values of a base that writes; memory is taken as it is written to."
    )
    generation_sequences: int = Field(32, ge=1, description="Answers that are written at a time on one base.")
    generation_max_tokens: int = Field(1_024, ge=1, description="Longest answer of a request that names no max_tokens.")
    generation_queue_per_customer: int = Field(
        256, ge=1, description="Answers one customer may have unfinished; 429 beyond."
    )
    generation_upstream: str = Field(
        "",
        description="URL of a vLLM server that writes the answers on `GRAFT_GENERATION_BASE_MODEL`; empty: Graft does.",
    )
    generation_upstream_key: SecretStr | None = Field(None, description="That server's `--api-key`, if it has one.")
    generation_upstream_folder: Path | None = Field(
        None,
        description="Folder for adapters that both read, under the same path; empty: one in the data folder.",
    )
    directory_poll_s: float = Field(
        1.0, gt=0, description="How often a predictor asks for changes of keys and aliases."
    )

    # Training
    lease_s: float = Field(10.0, gt=0, description="How long a worker owns a job without renewing.")
    heartbeat_s: float = Field(2.0, gt=0, description="How often a worker renews its lease and reports progress.")
    sweep_s: float = Field(2.0, gt=0, description="How often lost messages and expired leases are looked for.")
    resend_after_s: float = Field(5.0, gt=0, description="A queued job whose message is older is sent again.")
    max_attempts: int = Field(3, ge=1, description="Failed attempts before a job fails.")
    max_interruptions: int = Field(
        20, ge=1, description="Attempts that may end because their worker was lost, before a job fails."
    )
    train_timeout_s: float = Field(3_600.0, gt=0, description="Longest run of one attempt.")
    stall_timeout_s: float = Field(300.0, gt=0, description="A trainer that reports nothing for so long is killed.")
    room_wait_s: float = Field(60.0, ge=0, description="How long an attempt that found the disk full waits for room.")
    trainer_niceness: int = Field(
        10, ge=0, le=19, description="How far the trainer steps back for prediction on the same machine."
    )
    feature_cache_bytes: int = Field(
        10 * 2**30, ge=1, description="Features and checkpoints that a worker keeps on disk."
    )
    worker_metrics_port: int = Field(
        0, ge=0, description="Port of the worker's Prometheus metrics, of further ones of `graft up` the next; 0: none."
    )
    refine_budget_s: float = Field(
        900.0, gt=0, description="What `auto` may spend on refinement after the first version."
    )
    experience: bool = Field(
        True, description="Whether `auto` learns from the outcomes of earlier jobs, of all customers: numbers only."
    )

    @model_validator(mode="before")
    @classmethod
    def _drop_empty(cls, values: object) -> object:
        # `GRAFT_ADMIN_KEY=` in a compose file means "not set".
        if isinstance(values, dict):
            return {key: value for key, value in values.items() if value != ""}
        return values

    @field_validator("admin_key")
    @classmethod
    def _long_enough(cls, key: SecretStr | None) -> SecretStr | None:
        if key is not None and len(key.get_secret_value()) < ADMIN_KEY_CHARS:
            raise PydanticCustomError(
                "short_key",
                "The operator's key has fewer than {least} characters and could be guessed. "
                'Make one with: python3 -c "import secrets; print(secrets.token_urlsafe(32))"',
                {"least": ADMIN_KEY_CHARS},
            )
        return key

    @field_validator("generation_upstream")
    @classmethod
    def _is_url(cls, url: str) -> str:
        try:
            parts = urlsplit(url)
            usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
        except ValueError:
            usable = False
        if url and not usable:
            raise PydanticCustomError("url", "Write the server's URL as in http://vllm:8000, without /v1")
        if url.rstrip("/").endswith("/v1"):
            raise PydanticCustomError("url", "Leave out /v1: the routes are added to the URL")
        return url

    @field_validator("trusted_proxies")
    @classmethod
    def _are_networks(cls, text: str) -> str:
        try:
            networks_of(text)
        except ValueError as error:
            raise PydanticCustomError(
                "networks",
                "{reason}. Write addresses and networks as in 10.0.0.7,172.16.0.0/12",
                {"reason": str(error)},
            ) from None
        return text

    @property
    def resolved_database_url(self) -> str:
        """The database's URL, SQLite in the data folder by default."""
        return self.database_url or f"sqlite:///{self.data_dir.absolute() / 'graft.db'}"

    @property
    def resolved_object_store(self) -> str:
        """The object store's URL or folder, a folder in the data folder by default."""
        return self.object_store or str(self.data_dir.absolute() / "objects")

    @property
    def generation_upstream_adapters(self) -> Path:
        """The folder in which the vLLM server finds adapters."""
        return (self.generation_upstream_folder or self.data_dir / "upstream-adapters").absolute()

    @property
    def cache_dir(self) -> Path:
        """Local, rebuildable files: feature caches, adapters on disk, the trainer's scratch folders."""
        return self.data_dir.absolute() / "cache"


@lru_cache(maxsize=8)
def networks_of(text: str) -> tuple[IPv4Network | IPv6Network, ...]:
    """Return the networks of a list with commas, or of `none`; an address is a network of one. Raises ValueError."""
    parts = [] if text == "none" else text.split(",")
    return tuple(ip_network(part.strip()) for part in parts)


def describe_faults(error: ValidationError) -> str:
    """Return the variables that are wrong, and what is wrong with them; their values may be secrets."""
    faults = [f"GRAFT_{'_'.join(map(str, fault['loc'])).upper()}: {fault['msg']}" for fault in error.errors()]
    return "; ".join(faults)


@lru_cache(maxsize=1)
def load() -> Settings:
    """Return the settings of this process, read from the environment once."""
    return Settings()
