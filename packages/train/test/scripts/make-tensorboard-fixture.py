"""Makes ../__fixtures__/tensorboard-python.tfevents: a few events as Python's TensorBoard writes them.

Run with a Python that has tensorboard:  python make-tensorboard-fixture.py
"""
import pathlib

from tensorboard.compat.proto import event_pb2, summary_pb2, tensor_pb2, tensor_shape_pb2
from tensorboard.summary.writer.record_writer import RecordWriter

target = pathlib.Path(__file__).parent.parent / "__fixtures__" / "tensorboard-python.tfevents"
Value = summary_pb2.Summary.Value


def text(tag, content):
    metadata = summary_pb2.SummaryMetadata(
        plugin_data=summary_pb2.SummaryMetadata.PluginData(plugin_name="text"),
        data_class=summary_pb2.DATA_CLASS_TENSOR,
    )
    shape = tensor_shape_pb2.TensorShapeProto(dim=[tensor_shape_pb2.TensorShapeProto.Dim(size=1)])
    tensor = tensor_pb2.TensorProto(dtype=7, tensor_shape=shape, string_val=[content.encode()])
    return Value(tag=tag, metadata=metadata, tensor=tensor)


def counts(tag, values):
    histogram = summary_pb2.HistogramProto(
        min=-0.5,
        max=len(values) - 0.5,
        num=sum(values),
        sum=sum(at * value for at, value in enumerate(values)),
        sum_squares=sum(at * at * value for at, value in enumerate(values)),
        bucket_limit=[at + 0.5 for at in range(len(values))],
        bucket=values,
    )
    return Value(tag=tag, histo=histogram)


events = [
    dict(step=0, file_version="brain.Event:2"),
    dict(step=6, session_log=event_pb2.SessionLog(status=event_pb2.SessionLog.START)),
    dict(step=0, summary=summary_pb2.Summary(value=[text("config/text_summary", '    { "name": "naïve 日本" }')])),
    dict(
        step=70_000,
        summary=summary_pb2.Summary(
            value=[
                Value(tag="train/loss", simple_value=2.5),
                Value(tag="train/zero", simple_value=0.0),
                Value(tag="train/third", simple_value=1 / 3),
                counts("routing/layer_0/load", [3, 0, 5, 1]),
                counts("routing/layer_1/load", [0, 0]),
            ]
        ),
    ),
    dict(step=3_000_000_000, summary=summary_pb2.Summary(value=[Value(tag="eval/loss", simple_value=float("inf"))])),
]
with open(target, "wb") as file:
    writer = RecordWriter(file)
    for event in events:
        writer.write(event_pb2.Event(wall_time=1_700_000_000.25, **event).SerializeToString())
