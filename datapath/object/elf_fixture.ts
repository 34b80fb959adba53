/** Builds small ELF and BTF files by hand, for tests of the reader. @module */

/** A section to write. */
export interface FixtureSection {
  readonly name: string;
  readonly type: number;
  readonly flags?: number;
  readonly link?: number;
  readonly info?: number;
  readonly entrySize?: number;
  readonly data: Uint8Array;
}

/** A symbol to write. */
export interface FixtureSymbol {
  readonly name: string;
  readonly info: number;
  readonly section: number;
  readonly value?: number;
  readonly size?: number;
}

/** Appends little-endian numbers: `[width, value]`. */
export function pack(...fields: (readonly [1 | 2 | 4 | 8, number | bigint])[]): Uint8Array {
  const bytes = new Uint8Array(fields.reduce((sum, [width]) => sum + width, 0));
  const view = new DataView(bytes.buffer);
  let at = 0;
  for (const [width, value] of fields) {
    if (width === 8) view.setBigUint64(at, BigInt(value), true);
    else if (width === 4) view.setUint32(at, Number(value), true);
    else if (width === 2) view.setUint16(at, Number(value), true);
    else view.setUint8(at, Number(value));
    at += width;
  }
  return bytes;
}

/** Joins byte strings. */
export function concat(...parts: Uint8Array[]): Uint8Array {
  const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

/** A string table and the offset of each name. */
export function strings(names: readonly string[]): { data: Uint8Array; offset: (name: string) => number } {
  const offsets = new Map<string, number>();
  let text = "\0";
  for (const name of names) {
    if (offsets.has(name) || name === "") continue;
    offsets.set(name, text.length);
    text += `${name}\0`;
  }
  return { data: new TextEncoder().encode(text), offset: (name) => offsets.get(name) ?? 0 };
}

/**
 * An ELF64 little-endian relocatable file for eBPF. Sections are numbered from 1 as given; the symbol table, its names and
 * the section names follow.
 */
export function elf(sections: readonly FixtureSection[], symbols: readonly FixtureSymbol[] = []): Uint8Array {
  const symbolNames = strings(symbols.map((symbol) => symbol.name));
  const table = concat(
    new Uint8Array(24),
    ...symbols.map((s) =>
      pack([4, symbolNames.offset(s.name)], [1, s.info], [1, 0], [2, s.section], [8, s.value ?? 0], [
        8,
        s.size ?? 0,
      ])
    ),
  );
  const all: FixtureSection[] = [
    ...sections,
    { name: ".symtab", type: 2, link: sections.length + 2, info: 1, entrySize: 24, data: table },
    { name: ".strtab", type: 3, data: symbolNames.data },
  ];
  const names = strings([...all.map((section) => section.name), ".shstrtab"]);
  all.push({ name: ".shstrtab", type: 3, data: names.data });
  const headers: Uint8Array[] = [new Uint8Array(64)];
  let at = 64;
  for (const s of all) {
    headers.push(pack(
      [4, names.offset(s.name)],
      [4, s.type],
      [8, s.flags ?? 0],
      [8, 0],
      [8, at],
      [8, s.data.length],
      [4, s.link ?? 0],
      [4, s.info ?? 0],
      [8, 8],
      [8, s.entrySize ?? 0],
    ));
    at += s.data.length;
  }
  const head = concat(
    new Uint8Array([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
    pack([2, 1], [2, 247], [4, 1], [8, 0], [8, 0], [8, at], [4, 0], [2, 64], [2, 0], [2, 0], [2, 64], [
      2,
      all.length + 1,
    ], [2, all.length]),
  );
  return concat(head, ...all.map((section) => section.data), ...headers);
}

/** BTF from encoded types and names. */
export function btf(types: Uint8Array, names: Uint8Array): Uint8Array {
  return concat(
    pack([2, 0xeb9f], [1, 1], [1, 0], [4, 24], [4, 0], [4, types.length], [4, types.length], [
      4,
      names.length,
    ]),
    types,
    names,
  );
}

/** Head of a BTF type. */
export function btfHead(
  name: number,
  kind: number,
  vlen: number,
  sizeOrType: number,
  flag = false,
): Uint8Array {
  return pack([4, name], [4, ((flag ? 0x80000000 : 0) + kind * 0x1000000 + vlen) >>> 0], [4, sizeOrType]);
}
