/**
 * Compiled modules on disk, so that a process starts in milliseconds. What is read back is machine code that
 * will run in this process, therefore a file counts only if nobody else could have written it and it is whole:
 *
 * ```text
 *  <dir>/verifier-<sha256 of the wasm>-<wasmtime version>-<machine>-<settings>.cwasm      mode 0600
 *  ┌──────────────────┬───────────────────────────┬──────────────────────────────┐
 *  │ "WEIRCWA1" 8     │ sha256 of the code 32     │ machine code                 │
 *  └──────────────────┴───────────────────────────┴──────────────────────────────┘
 * ```
 *
 * Any doubt (owner, mode, link, hash, version) means: compile anew and write it anew.
 *
 * @module
 */

import { createHash } from "node:crypto";
import { type CompiledModule, type Engine, ENGINE_SETTINGS } from "./engine.ts";
import { WASMTIME_VERSION } from "./layout.ts";

const MAGIC = new TextEncoder().encode("WEIRCWA1");
const HEADER_BYTES = 40;
const CODE_BYTES_MAX = 64 * 1024 * 1024;

/** How a module came to be: read from disk, or compiled and whether it could be stored. */
export interface ModuleOrigin {
  readonly from: "disk" | "compiler";
  /** The cache file, null without a cache directory. */
  readonly path: string | null;
  /** Why the file on disk was not used or not written; null when all went well. */
  readonly doubt: string | null;
}

/** Gives the compiled form of `wasm`, from `dir` if a trustworthy file is there. `dir` null: always compiles. */
export function loadModule(
  engine: Engine,
  wasm: Uint8Array<ArrayBuffer>,
  dir: string | null,
): { module: CompiledModule; origin: ModuleOrigin } {
  if (dir === null) {
    return { module: engine.compile(wasm), origin: { from: "compiler", path: null, doubt: null } };
  }
  const hash = createHash("sha256").update(wasm).digest("hex");
  const settings = ENGINE_SETTINGS.replaceAll(",", "_");
  const path = `${dir}/verifier-${hash}-${WASMTIME_VERSION}-${Deno.build.arch}-${settings}.cwasm`;
  const stored = readTrusted(dir, path);
  let doubt = typeof stored === "string" ? stored : null;
  if (typeof stored !== "string") {
    try {
      return { module: engine.deserialize(stored), origin: { from: "disk", path, doubt: null } };
    } catch (error) {
      doubt = (error as Error).message;
    }
  }
  const module = engine.compile(wasm);
  const failure = writeTrusted(dir, path, engine.serialize(module));
  return { module, origin: { from: "compiler", path, doubt: failure ?? doubt } };
}

/** The code in `path`, or why it is not to be trusted. */
function readTrusted(dir: string, path: string): Uint8Array<ArrayBuffer> | string {
  try {
    const untrusted = whyUntrusted(Deno.lstatSync(dir), "directory") ??
      whyUntrusted(Deno.lstatSync(path), "file");
    if (untrusted !== null) return untrusted;
    if (Deno.lstatSync(path).size > CODE_BYTES_MAX) return "the file is too large";
    const file = Deno.readFileSync(path);
    if (file.length < HEADER_BYTES || MAGIC.some((byte, index) => file[index] !== byte)) {
      return "the file is not a compiled module";
    }
    const code = file.slice(HEADER_BYTES);
    const hash = createHash("sha256").update(code).digest();
    if (hash.some((byte, index) => file[MAGIC.length + index] !== byte)) return "the file's hash is wrong";
    return code;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return "not there yet";
    return (error as Error).message;
  }
}

function whyUntrusted(info: Deno.FileInfo, kind: "file" | "directory"): string | null {
  if (info.isSymlink || (kind === "file" ? !info.isFile : !info.isDirectory)) {
    return `the ${kind} is not a plain one`;
  }
  if (info.uid !== 0 && info.uid !== Deno.uid()) return `the ${kind} belongs to user ${info.uid}`;
  if (((info.mode ?? 0) & 0o022) !== 0) return `the ${kind} can be written by others`;
  return null;
}

/** Writes by renaming, so that a reader sees all or nothing; returns why it could not. */
function writeTrusted(dir: string, path: string, code: Uint8Array<ArrayBuffer>): string | null {
  const temporary = `${path}.${Deno.pid}.tmp`;
  try {
    Deno.mkdirSync(dir, { recursive: true, mode: 0o700 });
    const untrusted = whyUntrusted(Deno.lstatSync(dir), "directory");
    if (untrusted !== null) return untrusted;
    const file = new Uint8Array(HEADER_BYTES + code.length);
    file.set(MAGIC);
    file.set(createHash("sha256").update(code).digest(), MAGIC.length);
    file.set(code, HEADER_BYTES);
    Deno.writeFileSync(temporary, file, { createNew: true, mode: 0o600 });
    Deno.renameSync(temporary, path);
    return null;
  } catch (error) {
    try {
      Deno.removeSync(temporary);
    } catch { /* it was never made */ }
    return (error as Error).message;
  }
}
