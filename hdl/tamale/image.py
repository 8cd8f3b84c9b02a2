"""Memory image: the header that packer, firmware and golden model share, defined once.

An image is what lies in DRAM from address 0: header, program, vocabulary text, tables of the
tokenizer, embedding, rotary table, then the sweep (everything that a token reads, in execution
order). The key-value cache follows it in memory and is not part of the file. All numbers are
little-endian, all sections start on a multiple of ``ALIGNMENT`` bytes.
"""

import struct
import zlib

__all__ = [
    "ALIGNMENT",
    "FIELDS",
    "HEADER_BYTES",
    "ImageError",
    "MAGIC",
    "NAME_BYTES",
    "VERSION",
    "pack_header",
    "TOKENIZER_ADDED_SPECIAL",
    "TOKENIZER_CLASSES",
    "TOKENIZER_CLASS_MASK",
    "TOKENIZER_FIELDS",
    "TOKENIZER_FLAGS",
    "TOKENIZER_KIND_MARK",
    "TOKENIZER_KIND_UNSTABLE",
    "TOKENIZER_PATTERNS",
    "parse_header",
]

#: First four bytes of an image.
MAGIC = 0x4C4D4154  # "TAML"

#: Changes with every incompatible change of header, layout or commands.
VERSION = 3

HEADER_BYTES = 1024
ALIGNMENT = 64

#: Bytes of the model name at the end of the header.
NAME_BYTES = 64

#: (name, meaning) of the 32-bit words of the header, in order.
FIELDS = (
    ("magic", "0x4C4D4154, the letters TAML"),
    ("version", "version of the format"),
    ("header_crc", "CRC-32 of the header with this word zero"),
    ("header_bytes", "bytes of the header"),
    ("image_bytes", "bytes of the whole image, header included"),
    ("payload_crc", "CRC-32 of everything behind the header"),
    ("bus_width", "bits of a beat"),
    (
        "code",
        "number of the weight code, bits 7:0; of the sparse code that matrices have, bits 15:8, "
        "0 for none",
    ),
    ("tile_rows", "matrix rows in a beat"),
    ("tile_k", "weights of a row in a beat"),
    ("vectors", "most activation vectors that the program uses at once"),
    ("vu_width", "elements of a vector-unit word that the layout is aligned to"),
    (
        "planes",
        "trit planes of layer weights (least), bits 7:0, (most), bits 15:8; head, bits 23:16",
    ),
    ("group_size", "weights that share a scale along K, 0 for whole rows"),
    ("key_planes", "trit planes of a cached key element"),
    ("value_planes", "trit planes of a cached value element"),
    ("scratch_elements", "elements of the scratchpad that the program needs"),
    ("slot_stride", "elements between the scratchpads of two slots"),
    ("act_steps", "K steps of activation memory that the program needs"),
    ("program_offset", "byte offset of the program"),
    ("program_commands", "commands of 16 bytes"),
    (
        "text_offset",
        "byte offset of the vocabulary: (vocabulary + 1) offsets of 32 bits, then bytes",
    ),
    ("text_bytes", "bytes of the vocabulary, 0 for a model without tokenizer"),
    ("embedding_base", "byte offset of the embedding"),
    ("embedding_stride", "bytes of an embedding row"),
    ("rope_base", "byte offset of the rotary table"),
    ("rope_stride", "bytes of a position in it"),
    ("sweep_base", "byte offset of the sweep"),
    ("sweep_bytes", "bytes of the sweep, head included"),
    ("head_bytes", "bytes of the head at the end of the sweep"),
    ("kv_sequence_bytes", "bytes of the cache of one sequence"),
    ("kv_layer_stride", "bytes between the caches of two layers"),
    ("key_head_stride", "bytes between the keys of two heads"),
    ("value_base", "bytes from a layer's cache to its values"),
    ("value_head_stride", "bytes between the values of two heads"),
    ("context", "positions of a sequence"),
    ("vocabulary", "rows of the head"),
    ("hidden", "width of the residual"),
    ("layers", "decoder layers"),
    ("heads", "query heads"),
    ("kv_heads", "key and value heads"),
    ("head_size", "elements of a head"),
    ("feed_forward", "width of the feed-forward layer"),
    ("logit_scalar", "scalar register (of the slot) that holds the value of one logit unit"),
    ("bos", "token that starts a text, 0xFFFFFFFF for none"),
    ("eos_count", "number of stop tokens, at most 4"),
    ("eos0", "stop token"),
    ("eos1", "stop token"),
    ("eos2", "stop token"),
    ("eos3", "stop token"),
    ("useful_layer_bytes", "bytes of the layers' tensors at their stated code, without padding"),
    ("useful_head_bytes", "the same of final norm and head"),
    ("useful_kv_centibytes", "hundredths of a byte of cache read per position of context"),
    ("tokenizer_offset", "byte offset of the tokenizer's tables"),
    ("tokenizer_bytes", "bytes of them, 0 where prompts must come as tokens"),
)

#: (name, meaning) of the 32-bit words at the start of the tokenizer's tables; offsets are bytes
#: from there. See "Tokenizer" in docs/reference/image.md.
TOKENIZER_FIELDS = (
    ("pattern", "how text is cut into words"),
    ("numbers", "most digits of a word, 0xFFFFFFFF for any number"),
    ("flags", "bits"),
    ("bytes", "offset of the token of each byte, 256 words, 0xFFFFFFFF for none"),
    ("merge_bits", "b: merges are in 2**b buckets"),
    ("merge_index", "offset of 2**b + 1 words: the first merge of each bucket"),
    (
        "merges",
        "offset of 3 words a merge: left, right, rank; above 24 bits each a byte of the new token",
    ),
    ("lookup_bits", "b: tokens by their bytes are in 2**b buckets"),
    ("lookup_index", "offset of 2**b + 1 words: the first token of each bucket"),
    ("lookup", "offset of the tokens, a word each"),
    ("added_count", "added tokens that are found in text, the longest first"),
    ("added", "offset of 12 bytes each: offset of its bytes, their number, token | special << 24"),
    ("range_count", "ranges of characters"),
    ("ranges", "offset of a word each: first code point << 8 | kind"),
)

#: Ways to cut text into words.
TOKENIZER_PATTERNS = {"NONE": 0, "GPT2": 1, "CL100K": 2}

#: Bits of the word ``flags``.
TOKENIZER_FLAGS = {
    "EITHER_CASE": 1,  # contractions in capitals too
    "IGNORE_MERGES": 2,  # a word that is a token needs no merges
    "PREFIX": 4,  # a part of the text that begins with another character gets a space before it
    "NFC": 8,  # the library normalises text first
    "CHARACTERS": 16,  # merges begin with characters, and with bytes where these are no tokens
    "PREFIX_ALWAYS": 32,  # with PREFIX: also a part that begins with a space
    "PREFIX_FIRST": 64,  # with PREFIX: only the first part of a text
}

#: Classes of characters; a DIGIT is a word of its own before any pattern.
TOKENIZER_CLASSES = {"OTHER": 0, "LETTER": 1, "NUMBER": 2, "SPACE": 3, "DIGIT": 4}
TOKENIZER_CLASS_MASK = 7

#: Above the class: a combining mark; a character that form NFC may change.
TOKENIZER_KIND_MARK = 8
TOKENIZER_KIND_UNSTABLE = 16

#: Bit of an added token's number that marks a special one.
TOKENIZER_ADDED_SPECIAL = 1 << 24

_OFFSET = {name: 4 * i for i, (name, _) in enumerate(FIELDS)}


class ImageError(ValueError):
    """An image that cannot be used; the message names the value and the mend."""


def pack_header(name, values):
    """Return the header bytes.

    Parameters
    ----------
    name : str
        Model name, cut to 63 bytes of UTF-8.
    values : dict of str to int
        Every field except magic, version, header_crc and header_bytes.
    """
    values = values | {
        "magic": MAGIC,
        "version": VERSION,
        "header_crc": 0,
        "header_bytes": HEADER_BYTES,
    }
    if set(values) != set(_OFFSET):
        raise ValueError(f"image header fields differ: {sorted(set(values) ^ set(_OFFSET))}")
    for key, value in values.items():
        if not 0 <= value < 1 << 32:
            raise ImageError(
                f"image header {key} = {value} does not fit 32 bits; the model is too large"
            )
    words = struct.pack(f"<{len(FIELDS)}I", *(values[key] for key, _ in FIELDS))
    text = name.encode()[: NAME_BYTES - 1]
    header = bytearray(HEADER_BYTES)
    header[: len(words)] = words
    header[HEADER_BYTES - NAME_BYTES : HEADER_BYTES - NAME_BYTES + len(text)] = text
    struct.pack_into("<I", header, _OFFSET["header_crc"], zlib.crc32(header))
    return bytes(header)


def parse_header(data, *, source="image"):
    """Return (name, dict of fields) of the header at the start of ``data``, checked.

    Raises
    ------
    ImageError
        For a foreign, truncated, newer or damaged header.
    """
    if len(data) < HEADER_BYTES:
        raise ImageError(
            f"{source}: {len(data)} bytes are too short for an image header; pack it again"
        )
    header = bytearray(data[:HEADER_BYTES])
    words = struct.unpack_from(f"<{len(FIELDS)}I", header)
    values = dict(zip(_OFFSET, words, strict=True))
    if values["magic"] != MAGIC:
        raise ImageError(f"{source}: magic {values['magic']:#010x} is not that of a Tamale image")
    if values["version"] != VERSION:
        raise ImageError(
            f"{source}: image version {values['version']}, this tool reads {VERSION}; pack it again"
        )
    struct.pack_into("<I", header, _OFFSET["header_crc"], 0)
    if zlib.crc32(header) != values["header_crc"]:
        raise ImageError(
            f"{source}: the header's checksum is wrong; the file is damaged, pack it again"
        )
    name = bytes(header[HEADER_BYTES - NAME_BYTES :]).rstrip(b"\0").decode(errors="replace")
    return name, values
