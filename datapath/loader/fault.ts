/**
 * Fault points: places where the kernel may refuse, and refuses for a test that names them. A file holds lines of
 *
 *     map-write weir_endpoints ENOMEM 3       the next three writes to that map fail so; without a number all do
 *     map-delete weir_addresses EBUSY
 *     map-create weir_policy E2BIG
 *
 * It is read before each such call while a file is set (`--fault-file` of the datapath), and nothing is asked else.
 *
 * @module
 */
import { errnoNumber } from "./errno.ts";

/** Kinds of fault points. */
export type FaultKind = "map-write" | "map-delete" | "map-create";

let file: string | undefined;
/** What the file said when it was read last, and how often each of its lines has struck. */
let read = "";
let struck = new Map<string, number>();

/** Which file names the faults; undefined: none happen. */
export function setFaultFile(path: string | undefined): void {
  file = path;
  read = "";
  struck = new Map();
}

/** The error number with which this call is to fail, negative as libbpf answers; 0 when it is to be made. */
export function faultAt(kind: FaultKind, name: string): number {
  if (file === undefined) return 0;
  let text = "";
  try {
    text = Deno.readTextFileSync(file);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
  if (text !== read) {
    read = text;
    struck = new Map();
  }
  for (const line of text.split("\n")) {
    const [at, of, error, times] = line.split(/\s+/);
    if (at !== kind || of !== name) continue;
    const errno = errnoNumber(error);
    if (errno === undefined) throw new Error(`Cannot read fault "${line}": ${error} is no error's name`);
    const so = struck.get(line) ?? 0;
    if (times !== undefined && times !== "" && so >= Number(times)) continue;
    struck.set(line, so + 1);
    return -errno;
  }
  return 0;
}
