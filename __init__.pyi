"""The public names and where each is defined; type checkers read this file, and `__init__.py` finds the names by it.

One name a line: `from .HOME import NAME as NAME`.
"""

from .engine.checkpoints.open_store import postgres_store as postgres_store
from .engine.local.processes.warm import shutdown as shutdown
from .engine.options import StopSignal as StopSignal
from .engine.page_settings import Page as Page
from .engine.page_settings import page as page
from .engine.plan.plan import Plan as Plan
from .engine.ray_runner import RayRunner as RayRunner
from .engine.ray_runner import ray_runner as ray_runner
from .engine.reporting.report import ErrorReport as ErrorReport
from .engine.reporting.report import NodeReport as NodeReport
from .engine.reporting.report import OrderReport as OrderReport
from .engine.reporting.report import RunReport as RunReport
from .engine.run import compile as compile
from .engine.run import imap as imap
from .engine.run import iterate as iterate
from .engine.run import mend as mend
from .engine.run import run as run
from .engine.runners.results import Results as Results
from .graphs.builder.graph import Graph as Graph
from .graphs.builder.streams import KeyedStream as KeyedStream
from .graphs.builder.streams import Stream as Stream
from .graphs.builder.streams import merge as merge
from .graphs.builder.streams import zip as zip
from .nodes.connectors.http.api import http_poll as http_poll
from .nodes.connectors.http.api import http_sink as http_sink
from .nodes.connectors.http.api import webhook as webhook
from .nodes.connectors.kafka.api import kafka as kafka
from .nodes.connectors.kafka.api import kafka_sink as kafka_sink
from .nodes.connectors.kafka.message import KafkaMessage as KafkaMessage
from .nodes.connectors.redis.api import redis as redis
from .nodes.connectors.redis.api import redis_sink as redis_sink
from .nodes.connectors.redis.entry import RedisEntry as RedisEntry
from .nodes.connectors.redis.lock import redis_lock as redis_lock
from .nodes.connectors.sql.api import postgres_lock as postgres_lock
from .nodes.connectors.sql.api import sql as sql
from .nodes.connectors.sql.api import sql_sink as sql_sink
from .nodes.connectors.timer import every as every
from .nodes.errors import CheckpointError as CheckpointError
from .nodes.errors import GiveUp as GiveUp
from .nodes.errors import GraphError as GraphError
from .nodes.errors import HandlerError as HandlerError
from .nodes.errors import HandlerTimeout as HandlerTimeout
from .nodes.errors import LockError as LockError
from .nodes.errors import LockHeld as LockHeld
from .nodes.errors import LockLost as LockLost
from .nodes.errors import LostEvents as LostEvents
from .nodes.errors import ProtocolError as ProtocolError
from .nodes.errors import SinkError as SinkError
from .nodes.errors import SluicewayError as SluicewayError
from .nodes.errors import SourceError as SourceError
from .nodes.errors import WorkerDied as WorkerDied
from .nodes.events import Context as Context
from .nodes.events import DeadLetter as DeadLetter
from .nodes.events import current as current
from .nodes.files.api import csv as csv
from .nodes.files.api import jsonl as jsonl
from .nodes.files.api import lines as lines
from .nodes.files.file_lock import file_lock as file_lock
from .nodes.handlers import Handler as Handler
from .nodes.handlers import per_worker as per_worker
from .nodes.locks import Lock as Lock
from .nodes.sinks import Batch as Batch
from .nodes.sinks import Sink as Sink
from .nodes.sources import Source as Source
from .nodes.sources import SourceReader as SourceReader
from .nodes.state.windows import Window as Window
from .nodes.state.windows import session as session
from .nodes.state.windows import sliding as sliding
from .nodes.state.windows import tumbling as tumbling
from .nodes.version import __version__ as __version__

__all__: list[str]
