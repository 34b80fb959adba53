/**
 * STARTUP: what a connection agrees on.
 * @module
 */

import { BodyError, BodyReader } from "./body_reader.ts";
import type { Compression } from "./body_compression.ts";

/** Options of a STARTUP; Cassandra's drivers send three to six. */
const OPTIONS_MAX = 64;

/**
 * Reads the compression from the whole body of a STARTUP.
 *
 * @throws BodyError, also for what a server could read in two ways
 */
export function readStartup(body: Uint8Array, version: number): Compression {
  const reader = new BodyReader(body, body.length);
  const count = reader.u16();
  if (count > OPTIONS_MAX) throw new BodyError(`${count} options, at most ${OPTIONS_MAX} are taken`);
  const options = new Map<string, string>();
  for (let index = 0; index < count; index++) {
    // Servers fold the names.
    const name = reader.string().toUpperCase();
    if (options.has(name)) throw new BodyError(`option ${JSON.stringify(name.slice(0, 40))} twice`);
    options.set(name, reader.string());
  }
  if (reader.at !== body.length) throw new BodyError("bytes after the last option");
  const compression = options.get("COMPRESSION")?.toLowerCase() ?? "";
  if (compression === "") return "none";
  if (compression === "lz4" || (compression === "snappy" && version < 5)) return compression;
  throw new BodyError(`compression ${JSON.stringify(compression.slice(0, 40))} in version ${version}`);
}
