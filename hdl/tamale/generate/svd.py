"""CMSIS-SVD description of the registers, for debuggers and for generators of other languages.

Source: Arm CMSIS-SVD, schema 1.3. Its elements have a fixed order, which this writer follows.
"""

import xml.etree.ElementTree as xml

__all__ = ["generate"]

_ACCESS = {
    "rw": "read-write",
    "ro": "read-only",
    "wo": "write-only",
    "pulse": "write-only",
    "w1c": "read-write",
    "const": "read-only",
}


def generate(system):
    """Give the text of ``tamale_soc.svd``."""
    device = xml.Element(
        "device",
        {
            "schemaVersion": "1.3",
            "xmlns:xs": "http://www.w3.org/2001/XMLSchema-instance",
            "xs:noNamespaceSchemaLocation": "CMSIS-SVD.xsd",
        },
    )
    _add(
        device,
        vendor="Tamale",
        name="Tamale",
        version="1",
        description=f"Tamale system {system.name}.",
        addressUnitBits=8,
        width=32,
        size=32,
        access="read-write",
        resetValue="0x0",
        resetMask="0xffffffff",
    )
    peripherals = xml.SubElement(device, "peripherals")
    for region in system.peripherals:
        peripheral = xml.SubElement(peripherals, "peripheral")
        _add(
            peripheral,
            name=region.name.upper(),
            description=region.block.doc,
            baseAddress=f"{region.base:#010x}",
        )
        _add(
            xml.SubElement(peripheral, "addressBlock"),
            offset="0x0",
            size=f"{region.block.size:#x}",
            usage="registers",
        )
        if region.name in system.interrupts:
            _add(
                xml.SubElement(peripheral, "interrupt"),
                name=region.name.upper(),
                description=f"Interrupt of {region.name}.",
                value=system.interrupts[region.name],
            )
        registers = xml.SubElement(peripheral, "registers")
        for item in region.block.registers:
            _register(registers, item)
        for window in region.block.windows:
            _add(
                xml.SubElement(registers, "register"),
                dim=window.size // 4,
                dimIncrement=4,
                name=f"{window.name.upper()}[%s]",
                description=window.doc,
                addressOffset=f"{window.offset:#x}",
                size=32,
                access=_ACCESS[window.access],
            )
    xml.indent(device, "  ")
    return '<?xml version="1.0" encoding="utf-8"?>\n' + xml.tostring(device, "unicode") + "\n"


def _add(parent, **children):
    for tag, value in children.items():
        xml.SubElement(parent, tag).text = str(value)


def _register(parent, item):
    element = xml.SubElement(parent, "register")
    name = item.name.upper()
    if item.count is not None:
        _add(element, dim=item.count, dimIncrement=4 * item.words)
        name += "[%s]"
    access = (
        "read-write" if item.readable and item.writable
        else "read-only" if item.readable
        else "write-only"
    )  # fmt: skip
    _add(
        element,
        name=name,
        description=item.doc,
        addressOffset=f"{item.offset:#x}",
        size=32 * item.words,
        access=access,
        resetValue=f"{item.init_word:#x}",
    )
    fields = xml.SubElement(element, "fields")
    for field in item.fields:
        entry = xml.SubElement(fields, "field")
        _add(
            entry,
            name=field.name.upper(),
            description=field.doc,
            bitOffset=field.offset,
            bitWidth=field.width,
            access=_ACCESS[field.access],
        )
        if field.access == "w1c":
            _add(entry, modifiedWriteValues="oneToClear")
        if field.values:
            values = xml.SubElement(entry, "enumeratedValues")
            for value_name, value in field.values.items():
                _add(xml.SubElement(values, "enumeratedValue"), name=value_name, value=value)
