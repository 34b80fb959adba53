/** Symbols that an object expects from elsewhere: kernel configuration (`__kconfig`) and kernel symbols (`__ksym`). @module */
import type { Btf, BtfType } from "./btf.ts";
import type { ElfFile } from "./elf.ts";
import { STB } from "./elf.ts";
import { ObjectError } from "./error.ts";
import { MAP_FLAG_RDONLY_PROG, type MapDefinition } from "./map_definition.ts";
import { MAP_TYPES } from "./kinds.ts";

/** An undefined symbol and what provides it. */
export interface Extern {
  readonly name: string;
  readonly weak: boolean;
  /** `function`: a kernel function (kfunc); `symbol`: a kernel variable; `config`: a value of the kernel's configuration. */
  readonly kind: "function" | "symbol" | "config" | "unknown";
  /** BTF id of the extern's FUNC or VAR in the object, 0 without BTF. */
  readonly type: number;
  /** Offset in the map `.kconfig`, for `config`. */
  readonly offset: number;
}

/** Where configuration values come from. */
export interface KernelConfig {
  /** LINUX_VERSION_CODE, for example 6.12.0 is 0x060c00. */
  readonly version: number;
  /** `CONFIG_...` values as in `/proc/config.gz`: `y`, `m`, `1000`, `"text"`. */
  readonly values: ReadonlyMap<string, string>;
}

/** All externs of an object, and the map that holds its kernel configuration if it needs one. */
export function readExterns(
  elf: ElfFile,
  btf: Btf | undefined,
  config: KernelConfig | undefined,
  mapIndex: number,
): { externs: ReadonlyMap<string, Extern>; map: MapDefinition | undefined } {
  const externs = new Map<string, Extern>();
  const types = btf === undefined ? new Map<string, { id: number; section: string }>() : declared(btf);
  const values: { name: string; type: number; offset: number; size: number; weak: boolean }[] = [];
  let size = 0;
  for (const symbol of elf.symbols) {
    if (symbol.shndx !== 0 || symbol.name === "" || externs.has(symbol.name)) continue;
    const weak = symbol.binding === STB.weak;
    const found = types.get(symbol.name);
    const type = found === undefined ? undefined : btf!.type(found.id);
    let kind: Extern["kind"] = "unknown", offset = 0;
    if (type?.kind === "func") kind = "function";
    else if (type?.kind === "var" && found!.section === ".kconfig") {
      kind = "config";
      const bytes = btf!.sizeOf(type.type);
      if (bytes < 1 || bytes > 4096) {
        throw new ObjectError("bad-map", `the configuration value ${symbol.name}`, {
          found: `${bytes} bytes`,
          expected: "1 to 4096",
        });
      }
      const align = Math.min(8, Math.max(1, bytes & -bytes));
      offset = Math.ceil(size / align) * align;
      size = offset + bytes;
      values.push({ name: symbol.name, type: type.type, offset, size: bytes, weak });
    } else if (type?.kind === "var") kind = "symbol";
    externs.set(symbol.name, { name: symbol.name, weak, kind, type: found?.id ?? 0, offset });
  }
  if (size === 0) return { externs, map: undefined };
  const contents = new Uint8Array(size);
  let complete = true;
  for (const value of values) {
    const bytes = contents.subarray(value.offset, value.offset + value.size);
    complete = fill(bytes, value.name, btf!.resolve(value.type), btf!, config) && complete;
  }
  const map: MapDefinition = {
    index: mapIndex,
    name: ".kconfig",
    origin: "data",
    type: MAP_TYPES.indexOf("array"),
    keySize: 4,
    valueSize: size,
    maxEntries: 1,
    flags: MAP_FLAG_RDONLY_PROG,
    mapExtra: 0,
    pinning: 0,
    keyType: 0,
    valueType: btf!.find(".kconfig", "datasec")?.id ?? 0,
    // With one value unknown the whole map counts as unknown: the verdict then holds for every configuration.
    ...(complete ? { contents } : {}),
    frozen: complete,
    sectionIndex: -1,
    offset: 0,
  };
  return { externs, map };
}

function declared(btf: Btf): Map<string, { id: number; section: string }> {
  const result = new Map<string, { id: number; section: string }>();
  for (const section of btf.ofKind("datasec")) {
    if (section.name !== ".kconfig" && section.name !== ".ksyms") continue;
    for (const variable of section.variables) {
      result.set(btf.name(variable.type), { id: variable.type, section: section.name });
    }
  }
  return result;
}

/** Writes one value; false when it is not known. Weak values that are not there are zero, as in libbpf. */
function fill(
  bytes: Uint8Array,
  name: string,
  type: BtfType,
  btf: Btf,
  config: KernelConfig | undefined,
): boolean {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const number = (value: bigint): true => {
    for (let at = 0; at < bytes.length && at < 8; at++) {
      view.setUint8(at, Number((value >> BigInt(at * 8)) & 255n));
    }
    return true;
  };
  if (name === "LINUX_KERNEL_VERSION") return config === undefined ? false : number(BigInt(config.version));
  // x86-64 and arm64 kernels since 4.17 wrap system calls; cookies are there since 5.15.
  if (name === "LINUX_HAS_SYSCALL_WRAPPER" || name === "LINUX_HAS_BPF_COOKIE") return number(1n);
  const text = config?.values.get(name);
  if (text === undefined) return false;
  if (text === "y" || text === "m" || text === "n") {
    // enum libbpf_tristate: TRI_NO 0, TRI_YES 1, TRI_MODULE 2.
    if (type.kind === "enum" || type.kind === "enum64") {
      return number(text === "y" ? 1n : text === "m" ? 2n : 0n);
    }
    if (type.kind === "int" && type.bool) return number(text === "n" ? 0n : 1n);
    return number(BigInt(text.charCodeAt(0)));
  }
  if (text.startsWith('"')) {
    if (type.kind !== "array" || btf.sizeOf(type.type) !== 1) return false;
    bytes.set(new TextEncoder().encode(text.slice(1, -1)).subarray(0, Math.max(0, bytes.length - 1)));
    return true;
  }
  return /^-?(0x[0-9a-f]+|\d+)$/i.test(text)
    ? number(text.startsWith("-") ? -BigInt(text.slice(1)) : BigInt(text))
    : false;
}
