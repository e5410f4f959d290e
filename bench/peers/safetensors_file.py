"""Reads and writes safetensors files with numpy alone (the format's own package is not in Debian 12)."""

import json
import struct
from pathlib import Path

import numpy

# Names of the element types that the benchmarks exchange, as the format defines them.
_DTYPES = {
    "F16": numpy.float16,
    "F32": numpy.float32,
    "F64": numpy.float64,
    "I32": numpy.int32,
    "I64": numpy.int64,
    "U8": numpy.uint8,
    "BOOL": numpy.bool_,
}
_NAMES = {numpy.dtype(dtype): name for name, dtype in _DTYPES.items()}


def load(path):
    """The file's tensors as a dict of arrays: 8 bytes of header length, a JSON header, the data."""
    content = Path(path).read_bytes()
    (header_length,) = struct.unpack_from("<Q", content)
    header = json.loads(content[8 : 8 + header_length])
    header.pop("__metadata__", None)
    tensors = {}
    for name, entry in header.items():
        begin, end = (8 + header_length + offset for offset in entry["data_offsets"])
        values = numpy.frombuffer(content[begin:end], _DTYPES[entry["dtype"]])
        tensors[name] = values.reshape(entry["shape"]).copy()
    return tensors


def save(path, tensors):
    """Writes a dict of arrays."""
    header, offset = {}, 0
    for name, array in tensors.items():
        shape, size = list(array.shape), array.nbytes
        header[name] = {"dtype": _NAMES[array.dtype], "shape": shape, "data_offsets": [offset, offset + size]}
        offset += size
    encoded = json.dumps(header).encode()
    encoded += b" " * (-len(encoded) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(encoded)))
        file.write(encoded)
        for array in tensors.values():
            file.write(numpy.ascontiguousarray(array).tobytes())
