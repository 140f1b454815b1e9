"""Pixel compression: which Zarr codecs a dataset uses, decoding of stored chunks, reuse of buffers."""

from spinmeround.storage.codec.axis_order import reordered
from spinmeround.storage.codec.chunks import ChunkError, ChunkLayout, check_crc32c
from spinmeround.storage.codec.pixel_codec import DEFAULT_CODEC, PixelCodec, codec_of, codec_problem
from spinmeround.storage.codec.recycled_memory import RecycledMemory, lend

__all__ = [
    "DEFAULT_CODEC",
    "ChunkError",
    "ChunkLayout",
    "PixelCodec",
    "RecycledMemory",
    "check_crc32c",
    "codec_of",
    "codec_problem",
    "lend",
    "reordered",
]
