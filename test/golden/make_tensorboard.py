#!/usr/bin/env python3
"""Event files as TensorBoard's own package (pip install tensorboard) writes them: golden/tensorboard/*.tfevents.

Wall times and values are those of test/unit/test_tensorboard.c.
"""
import os
import struct
import zlib

from tensorboard.compat.proto import event_pb2, summary_pb2
from tensorboard.summary.writer.record_writer import RecordWriter

FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "tensorboard")


def chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width, height):
    rows = b"".join(b"\0" + bytes((x * y) % 256 for x in range(3 * width)) for y in range(height))
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def scalars(pairs):
    return summary_pb2.Summary(value=[summary_pb2.Summary.Value(tag=t, simple_value=v) for t, v in pairs])


def image(tag, width, height, data):
    picture = summary_pb2.Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=data)
    return summary_pb2.Summary(value=[summary_pb2.Summary.Value(tag=tag, image=picture)])


def main():
    os.makedirs(FOLDER, exist_ok=True)
    picture = png(7, 200)
    with open(os.path.join(FOLDER, "picture.png"), "wb") as file:
        file.write(picture)
    start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
    events = [
        event_pb2.Event(wall_time=1700000000.25, file_version="brain.Event:2"),
        event_pb2.Event(wall_time=1700000000.25, step=301, session_log=start),
        event_pb2.Event(wall_time=1700000001.5, step=310,
                        summary=scalars([("loss", 0.75), ("grad_norm", 1e-30), ("zero", 0.0), ("projection_loss", -0.5)])),
        event_pb2.Event(wall_time=1700000002.0, step=5_000_000_000, summary=image("samples", 7, 200, picture)),
        event_pb2.Event(wall_time=1700000003.0, summary=scalars([("x" * 200, float("inf"))])),
    ]
    with open(os.path.join(FOLDER, "run.tfevents"), "wb") as file:
        writer = RecordWriter(file)
        for event in events:
            writer.write(event.SerializeToString())
        writer.flush()


if __name__ == "__main__":
    main()
