"""What a board reports, in sentences: the value that is wrong and the mend."""

from tamale.gateware.interfaces import Fault
from tamale.image import MAGIC

__all__ = ["ERRORS", "FAULTS", "explain", "explain_end"]

_REPACK = "pack it again with `tamale pack`"
_WRONG = f"the image is wrong, {_REPACK}"

#: What the field ``what`` of a record ``error`` means; in braces are other fields of the record.
ERRORS = {
    "no_image": f"the memory starts with {{magic:#x}}, an image with {MAGIC:#x}; "
    "load an image that `tamale pack` wrote (`tamale load`)",
    "memory_clock": "the memory's delay lines do not settle; load the bitstream again "
    "(`tamale flash`)",
    "memory_training": "lane {lane} of the memory reads right with no setting (bursts seen: "
    "{seen}); "
    "load the bitstream again (`tamale flash`), and if that does not help, the board is damaged or "
    "too hot",
    "bad_load": "load takes three numbers: bytes, bits per second (0: as now), and 1 to 10000 "
    "milliseconds of silence that end it",
    "bad_range": "{bytes} bytes from there are not within the memory, or no multiple of what is "
    "checked at once (64; memtest: 4); the memory has {memory}",
    "bad_baud": "the board's clock cannot make {baud} bits per second to 2.5 %; choose another "
    "speed",
    "load_interrupted": "nothing came for too long, so the load was given up; load again, what "
    "arrived is kept",
    "card_not_ready": "the SD card does not become ready; try another one",
    "card_unreadable": "the SD card cannot be read at sector {sector}; try another one",
    "card_no_volume": "the SD card has no FAT16 or FAT32 volume; format it with FAT32",
    "card_no_file": "the SD card has no file TAMALE.IMG in its root folder; copy the image there "
    "under this name",
    "card_file_short": "the file TAMALE.IMG on the SD card is cut off or its table of clusters is "
    "damaged; copy it anew",
    "image_version": "the image has version {has}, this firmware reads {wants}; "
    f"{_REPACK} of the same release",
    "header_checksum": "the checksum of the image's header is {has:#010x}, not {wants:#010x}; "
    f"the image is damaged, {_REPACK}",
    "image_checksum": "the checksum of the image is {has:#010x}, not {wants:#010x}; "
    f"the image is damaged, load it again or {_REPACK}",
    "image_does_not_fit": "the image was packed for {field} = {image}, the hardware has "
    "{hardware}; pack it again for this configuration",
    "memory_too_small": "image and cache need {wants} bytes, the memory has {has}; "
    "lower the context or use a board with more memory",
    "checksum_engine": "the image could not be read for its checksum",
    "unknown_command": "the command is unknown or not made of printable words of up to 15 "
    "characters; commands are clear, prompt, text, generate, stats, hello, load, boot and halt",
    "bad_number": "a word is no decimal number of 32 bits; correct the command",
    "bad_sequence": "sequence {sequence} is not among the {sequences} that the memory and the "
    "hardware hold; run fewer in parallel or lower the context",
    "bad_request": "generate takes six numbers, of which the second (tokens) is 1 or more: "
    "sequences, tokens, temperature, top-k, seed, all logits",
    "token_outside_vocabulary": "token {token} is outside the vocabulary of {vocabulary} tokens; "
    "use the model's own tokenizer",
    "prompt_longer_than_context": "the prompt is longer than the context of {context} positions; "
    "shorten it or pack the model with a larger context",
    "no_tokenizer": "the image has no tables for taking text apart, or the on-chip memory no room "
    "for the code; send the prompt as tokens (`tamale run --host-tokenizer` does)",
    "bad_text": "a backslash in a text is followed by something else than n, r, \\\\ or x and two "
    "hexadecimal digits; correct the text",
    "word_too_long": "a word of the text, or a line, is longer than the {bytes} bytes that the "
    "board can merge at once; send the prompt as tokens (`tamale run --host-tokenizer` does)",
    "text_not_normalised": "the text may have another form NFC, which the board cannot make; "
    "normalise it first and say so with option 4",
    "text_unfinished": "the text for sequence {sequence} was to go on; send its end first, "
    "or clear",
    "bad_cached": "the cache of a sequence without prompt can hold fewer than {context} positions; "
    "send `clear` and a smaller number",
    "cache_in_use": "the cache of sequence {sequence} is in use, so the board cannot take text "
    "apart there; send tokens, or `clear` first",
    "empty_prompt": "sequence {sequence} has no prompt; send one of at least one token first",
}

#: What a fault means; ``{info}`` is its register.
FAULTS = {
    Fault.READ_ERROR: "the memory answered a read at {info:#010x} with an error; "
    "check its size in the configuration",
    Fault.WRITE_ERROR: "the memory answered a write at {info:#010x} with an error; "
    "check its size in the configuration",
    Fault.READ_BOUNDS: f"a read at {{info:#010x}} leaves image and cache; {_WRONG}",
    Fault.WRITE_BOUNDS: f"a write at {{info:#010x}} leaves the cache; {_WRONG}",
    Fault.BAD_COMMAND: f"command {{info}} of the program is unknown; {_WRONG}",
    Fault.BAD_PROGRAM: f"the program runs past its end, to command {{info}}; {_WRONG}",
    Fault.BAD_JOB: "a job has no slots or too many, or the position of its slot {info} is past the "
    "longest context; this is an error of the firmware",
}

_ENDS = {
    "timing rule of the memory broken": "the memory controller broke timing rule {violation} of "
    "sdr_sdram.v; record waves to see where",
    "rule of an SPI device broken": "the firmware broke a rule of a device on the SPI port: {rule}",
    "cycle limit reached": "the cycle limit was reached; raise it",
    "silence": "the board hangs: no byte from it and no beat of memory for too long; "
    "record waves to see where",
    "terminated": "it was told to",
    "end of input": "its input ended",
}


def explain(record):
    """Return the sentence for a record of kind ``error`` or ``fault``."""
    fields = {}
    for key, value in record.fields:
        fields[key] = int(value) if value.lstrip("-").isdigit() else value
    plain = ", ".join(f"{key} {value}" for key, value in record.fields)
    try:
        if record.kind == "error":
            name = fields["what"]
            return f"the board reports {name}: {ERRORS[name].format_map(fields)}"
        fault = Fault(fields["code"])
        return f"the accelerator stopped with {fault.name}: {FAULTS[fault].format_map(fields)}"
    except (KeyError, ValueError):
        # A firmware that is newer than this tool.
        return f"the board reports {record.kind}: {plain}"


def explain_end(summary, said=""):
    """Return the sentence for a simulation that ended where an answer was due.

    Parameters
    ----------
    summary : dict
        The line of JSON that closes a simulation.
    said : str
        Last words of the firmware.
    """
    reason = summary.get("reason")
    if reason == "halted":
        text = f"the firmware ended with code {summary.get('exit_code')}"
        if said:
            text += f", saying {said!r}"
    else:
        text = _ENDS.get(reason, str(reason)).format_map(summary)
    return f"the simulation ended after {summary.get('cycles'):,} cycles: {text}"
