"""Damages files: random bytes of any file, and changes inside of the formats, whose checksums are made right again.

Every function is determined by the random generator that it gets.
"""

import io
import json
import math
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from random import Random
from typing import Any

import numpy as np

JUNK: tuple[Any, ...] = (
    *(None, True, False, "", "x", "../x", "/etc/passwd", "\0", "\ud800", "x" * 5000, "NaN"),
    *(0, 1, -1, 2, 7, 512, 65536, 2**31, 2**63, -(2**63) - 1, 10**400, 0.5, -0.0, 1e308, 1e-320, math.nan, math.inf),
    *([], {}, [[]], [0] * 9, [None], {"a": {}}, [1e40, -1], {"": 0}),
)
_DEEP = b"[" * 100_000
_SHORT = ("<B", "<H", ">H", "<I", ">I", "<Q", ">Q")
_PNG = b"\x89PNG\r\n\x1a\n"


def damaged(name: str, data: bytes, rng: Random) -> bytes:
    """The content of a file, changed; half of the changes respect the format, which the name tells."""
    change = next((change for ends, change in _FORMATS.items() if name.endswith(ends)), None)
    if change is None or rng.random() < 0.5:
        return damaged_bytes(data, rng)
    return change(data, rng)


def damaged_bytes(data: bytes, rng: Random) -> bytes:
    """Bits flipped, numbers replaced, spans removed, doubled, moved or zeroed, or the end cut off."""
    found = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4, 16))):
        _BYTES[rng.randrange(len(_BYTES))](found, rng)
    return bytes(found)


def _flip(data: bytearray, rng: Random) -> None:
    if data:
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def _number(data: bytearray, rng: Random) -> None:
    kind = rng.choice(_SHORT)
    top = 2 ** (8 * struct.calcsize(kind)) - 1
    value = rng.choice((0, 1, top, top // 2, top // 2 + 1, len(data) & top, rng.randint(0, top)))
    at = _place(data, rng)
    data[at : at + struct.calcsize(kind)] = struct.pack(kind, value)


def _cut(data: bytearray, rng: Random) -> None:
    del data[_place(data, rng) :]


def _remove(data: bytearray, rng: Random) -> None:
    at = _place(data, rng)
    del data[at : at + rng.choice((1, 4, 64, 1000))]


def _double(data: bytearray, rng: Random) -> None:
    at = _place(data, rng)
    data[at:at] = data[at : at + rng.choice((1, 4, 64, 1000))]


def _insert(data: bytearray, rng: Random) -> None:
    at = _place(data, rng)
    data[at:at] = rng.randbytes(rng.choice((1, 4, 64)))


def _blank(data: bytearray, rng: Random) -> None:
    at, length = _place(data, rng), rng.choice((4, 64, 1000))
    data[at : at + length] = bytes([rng.choice((0, 255))]) * len(data[at : at + length])


def _replace(data: bytearray, rng: Random) -> None:
    data[:] = rng.choice((b"", b"\0", b"PK\5\6" + bytes(18), b"{}", b"[]", b"null", b"\xff\xfe{\0}\0", _DEEP, _PNG))


_BYTES = (_flip, _flip, _flip, _number, _number, _cut, _remove, _double, _insert, _blank, _replace)


def _place(data: bytearray, rng: Random) -> int:
    """Headers are as likely as all the rest."""
    return rng.randrange(min(len(data), 256) + 1) if rng.random() < 0.5 else rng.randrange(len(data) + 1)


def damaged_json(data: bytes, rng: Random) -> bytes:
    """A document with values replaced, removed, doubled or put under other names."""
    try:
        value = json.loads(data)
    except ValueError:
        return damaged_bytes(data, rng)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        value = changed_value(value, rng)
    return json.dumps(value).encode()


def changed_value(value: Any, rng: Random) -> Any:
    """The value with one change at a random depth."""
    if not isinstance(value, dict | list) or not value or rng.random() < 0.15:
        return _other(value, rng)
    place = rng.choice(list(value) if isinstance(value, dict) else range(len(value)))
    changed = value.copy()
    kind = rng.random()
    if kind < 0.12:
        del changed[place]
    elif kind < 0.2 and isinstance(changed, dict):
        changed[rng.choice(("", "extra", "../x", str(place) + "x"))] = changed.pop(place)
    elif kind < 0.2:
        changed.insert(place, changed[place])  # type: ignore[arg-type]  # an index
    else:
        changed[place] = changed_value(value[place], rng)
    return changed


def _other(value: Any, rng: Random) -> Any:
    if isinstance(value, int | float) and not isinstance(value, bool) and rng.random() < 0.5:
        third = value // 3 if isinstance(value, int) and abs(value) > 2**53 else value / 3  # no float holds it
        return rng.choice((-value, value + 1, value * 2, third, value * 10**6))
    return rng.choice(([value], str(value))) if rng.random() < 0.2 else rng.choice(JUNK)


def damaged_safetensors(data: bytes, rng: Random) -> bytes:
    """The header changed as JSON, or a number made NaN or infinite."""
    size = int.from_bytes(data[:8], "little")
    header, values = data[8 : 8 + size], bytearray(data[8 + size :])
    if rng.random() < 0.3 and len(values) >= 4:
        at = rng.randrange(len(values) // 4) * 4
        values[at : at + 4] = struct.pack("<f", rng.choice((math.nan, math.inf, -math.inf, 3e38)))
        return data[: 8 + size] + values
    header = damaged_json(header, rng)
    return len(header).to_bytes(8, "little") + header + values


def damaged_zip(data: bytes, rng: Random) -> bytes:
    """One member changed or left out, with right checksums."""
    if not zipfile.is_zipfile(io.BytesIO(data)):
        return damaged_bytes(data, rng)
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w") as new:
        names = old.namelist()
        chosen, kind = rng.choice(names), rng.random()
        for name in names:
            content = old.read(name)
            if name == chosen and kind < 0.1:
                continue
            new.writestr(name, damaged(name, content, rng) if name == chosen else content)
    return out.getvalue()


def damaged_npy(data: bytes, rng: Random) -> bytes:
    """Another shape or type in the header, or other numbers."""
    major = data[6]
    size = int.from_bytes(data[8 : 8 + (2 if major == 1 else 4)], "little")
    start = 8 + (2 if major == 1 else 4)
    header = data[start : start + size].decode("latin1")
    old = rng.choice(("'<f4'", "'<f8'", "False", "shape", "descr", "(", ")", ","))
    new = rng.choice(("'|O'", "'<c16'", "'<M8[s]'", "'|S0'", "[('a', '<f4')]", "True", "(-1,)", "(10**9,)", "", "None"))
    text = header.replace(old, new, 1).rstrip().encode("latin1") + b"\n"
    if major == 1 and len(text) > 65535:
        return damaged_bytes(data, rng)
    return data[:8] + len(text).to_bytes(start - 8, "little") + text + data[start + size :]


def damaged_png(data: bytes, rng: Random) -> bytes:
    """A chunk changed, left out, doubled or moved, with right checksums."""
    chunks, at = [], 8
    while at + 12 <= len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + size]))
        at += size + 12
    place, kind = rng.randrange(len(chunks)), rng.random()
    name, content = chunks[place]
    if kind < 0.1:
        del chunks[place]
    elif kind < 0.2:
        chunks.insert(rng.randrange(len(chunks) + 1), chunks[place])
    elif kind < 0.3:
        chunks[place] = (rng.choice((b"iCCP", b"tRNS", b"eXIf", b"PLTE", b"IDAT", b"acTL", b"zTXt")), content)
    elif name == b"IDAT" and kind < 0.6:
        chunks[place] = (name, zlib.compress(damaged_bytes(_inflated(content), rng)))
    else:
        chunks[place] = (name, damaged_bytes(content, rng))
    return _PNG + b"".join(
        len(content).to_bytes(4, "big") + name + content + zlib.crc32(name + content).to_bytes(4, "big")
        for name, content in chunks
    )


def _inflated(data: bytes) -> bytes:
    try:
        return zlib.decompress(data)
    except zlib.error:
        return data


def damaged_tar(data: bytes, rng: Random) -> bytes:
    """One member changed, renamed, left out, doubled or made a link."""
    out = io.BytesIO()
    with tarfile.open(fileobj=io.BytesIO(data)) as old, tarfile.open(fileobj=out, mode="w") as new:
        members = old.getmembers()
        chosen, kind = rng.randrange(len(members)), rng.random()
        for number, member in enumerate(members):
            stream = old.extractfile(member)
            content = b"" if stream is None else stream.read()
            if number == chosen:
                if kind < 0.1:
                    continue
                if kind < 0.2:
                    member.name = rng.choice(("../x.json", "/x.json", "x", "x.y.z", ".json", "x" * 300 + ".json"))
                elif kind < 0.3:
                    member.type = rng.choice((tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE))
                    member.linkname = rng.choice(("/etc/passwd", member.name, "y"))
                elif kind < 0.35:
                    new.addfile(member, io.BytesIO(content))
                else:
                    content = damaged(member.name, content, rng)
            member.size = len(content) if member.isfile() else 0
            new.addfile(member, io.BytesIO(content))
    return out.getvalue()


def damaged_onnx(data: bytes, rng: Random) -> bytes:
    """A network with another shape, type, name, operator, or with values outside of its file."""
    import onnx

    model = onnx.load_from_string(data)
    graph = model.graph
    kind = rng.randrange(10)
    if kind < 4 and graph.initializer:
        _damage_tensor(rng.choice(graph.initializer), rng)
    elif kind < 6 and graph.node:
        _damage_node(rng.choice(graph.node), rng)
    elif kind < 8:
        values = rng.choice((graph.input, graph.output))
        if values and rng.random() < 0.3:
            del values[rng.randrange(len(values))]
        elif values:
            shape = rng.choice(values).type.tensor_type.shape
            if shape.dim and rng.random() < 0.7:
                rng.choice(shape.dim).dim_value = rng.choice((0, -1, 1, 7, 512, 2**31, 2**62))
            else:
                del shape.dim[:]
    elif kind == 8:
        model.ir_version = rng.choice((0, 1, 99, -1))
        if model.opset_import:
            model.opset_import[0].version = rng.choice((0, 1, 99, -1, 2**60))
    elif graph.node:
        del graph.node[rng.randrange(len(graph.node))]
    return bytes(model.SerializeToString())


def _damage_tensor(tensor: Any, rng: Random) -> None:
    kind = rng.randrange(5)
    if kind == 0:
        tensor.dims[:] = rng.choice(([], [0], [-1], [2**40, 2**40], [3, 3], [1] * 9))
    elif kind == 1:
        tensor.data_type = rng.choice((0, 1, 2, 7, 8, 10, 11, 16, 17, 99, -1))
    elif kind == 2:
        tensor.raw_data = damaged_bytes(tensor.raw_data, rng)
    elif kind == 3:
        values = np.frombuffer(tensor.raw_data[: len(tensor.raw_data) // 4 * 4], np.float32).copy()
        if len(values):
            values[rng.randrange(len(values))] = rng.choice((np.nan, np.inf, 3e38))
        tensor.raw_data = values.tobytes()
    else:
        tensor.data_location = 1
        entry = tensor.external_data.add()
        entry.key, entry.value = "location", rng.choice(("/etc/passwd", "../x", "", "x" * 300))


def _damage_node(node: Any, rng: Random) -> None:
    kind = rng.randrange(4)
    if kind == 0:
        node.op_type = rng.choice(("Add", "Conv", "Loop", "Nothing", "", "Reshape", "Identity"))
    elif kind == 1 and node.input:
        node.input[rng.randrange(len(node.input))] = rng.choice(("", "nothing", node.output[0] if node.output else "x"))
    elif kind == 2 and node.attribute:
        attribute = rng.choice(node.attribute)
        attribute.ints[:] = [rng.choice((0, -1, 1, 3, 2**31, 2**62)) for _ in attribute.ints]
        attribute.i = rng.choice((0, -1, 2, 2**31))
    else:
        node.domain = rng.choice(("ai.onnx.ml", "com.nobody", ""))


def damaged_parquet(data: bytes, rng: Random) -> bytes:
    """A column that is left out, of another type, or with a missing or changed cell."""
    import pyarrow as pa
    from pyarrow import parquet

    rows = parquet.read_table(io.BytesIO(data)).to_pylist()
    row, kind = rng.choice(rows), rng.random()
    name = rng.choice(list(row))
    if kind < 0.2:
        for each in rows:
            del each[name]
    elif kind < 0.5:
        row[name] = rng.choice((None, [], 0, "x", [None], -1, [[1.0]], b"\xff", "../x", 2**62))
    elif isinstance(row[name], list) and row[name]:
        place = rng.randrange(len(row[name]))
        cell = row[name][place]
        if isinstance(cell, dict) and cell.get("bytes"):
            cell["bytes"] = damaged(".png", cell["bytes"], rng)
        else:
            row[name][place] = rng.choice((None, math.nan, 1e39, math.inf, "x", []))
    out = io.BytesIO()
    try:
        parquet.write_table(pa.Table.from_pylist(rows), out)
    except (pa.ArrowException, TypeError, ValueError):  # such a table can't be written
        return damaged_bytes(data, rng)
    return out.getvalue()


def damaged_text(data: bytes, rng: Random) -> bytes:
    """Lines removed, doubled or swapped, words replaced."""
    lines = data.decode("utf-8", "replace").splitlines(keepends=True) or [""]
    at, other = rng.randrange(len(lines)), rng.randrange(len(lines))
    kind = rng.randrange(4)
    if kind == 0:
        del lines[at]
    elif kind == 1:
        lines.insert(other, lines[at])
    elif kind == 2:
        lines[at], lines[other] = lines[other], lines[at]
    else:
        words = lines[at].split(" ")
        words[rng.randrange(len(words))] = rng.choice(
            ('"x"', "nan", "-1", "1e400", "[" * 3000, "\0", "=", "é", "{a=1}")
        )
        lines[at] = " ".join(words)
    return "".join(lines).encode("utf-8", "replace")


_FORMATS: dict[str | tuple[str, ...], Callable[[bytes, Random], bytes]] = {
    ".json": damaged_json,
    ".safetensors": damaged_safetensors,
    (".pth", ".bin", ".npz"): damaged_zip,
    ".npy": damaged_npy,
    ".png": damaged_png,
    ".tar": damaged_tar,
    ".onnx": damaged_onnx,
    ".parquet": damaged_parquet,
    (".toml", ".sha256", ".journal"): damaged_text,
}
