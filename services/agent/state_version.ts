/**
 * The stamp in an instance's state directory (`version.json`): which version wrote what is there, and in which schema. A
 * version that does not know the schema does not start: it would look in the wrong places and take what it does not find for
 * nothing.
 *
 * @module
 */
import { ProblemError, readInputTextSync } from "@weir/common";

/**
 * Schema of the state directory: 2 since each service has a directory of its own. To be counted up when an older version
 * would misread or overlook what this one writes.
 */
export const STATE_SCHEMA = 2;

const FILE = "version.json";
const FILE_BYTES_MAX = 4096;

/** Content of version.json. */
interface Stamp {
  readonly schema: number;
  /** Of Weir. */
  readonly version: string;
}

/**
 * Refuses state that this version cannot read. A directory without a stamp is empty, or older.
 * @throws {ProblemError} STATE_NEWER, STATE_VERSION_INVALID
 */
export function assertReadable(directory: string, version: string): void {
  const found = readStamp(directory);
  if (found === undefined || found.schema <= STATE_SCHEMA) return;
  throw new ProblemError("STATE_NEWER", {
    status: 500,
    detail: `Cannot start: the state in ${directory} is that of a newer version, Weir ${found.version}`,
    found: `schema ${found.schema}`,
    expected: `at most ${STATE_SCHEMA}, which Weir ${version} reads`,
    action: `Install Weir ${found.version} again; what is in the kernel goes on meanwhile`,
  });
}

/** Says that the state is this version's from now on: whole or not at all. Does nothing when it says so already. */
export function writeStamp(directory: string, version: string): void {
  const found = readStamp(directory);
  if (found?.schema === STATE_SCHEMA && found.version === version) return;
  const path = `${directory}/${FILE}`;
  const stamp: Stamp = { schema: STATE_SCHEMA, version };
  Deno.writeTextFileSync(`${path}.new`, JSON.stringify(stamp) + "\n", { mode: 0o644 });
  using file = Deno.openSync(`${path}.new`, { write: true });
  file.syncSync();
  Deno.renameSync(`${path}.new`, path);
}

function readStamp(directory: string): Stamp | undefined {
  const path = `${directory}/${FILE}`;
  try {
    Deno.lstatSync(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
  const text = readInputTextSync(path, { bytesMax: FILE_BYTES_MAX });
  let found: Stamp | undefined;
  try {
    found = JSON.parse(text);
  } catch {
    // Judged below.
  }
  if (!Number.isSafeInteger(found?.schema) || typeof found!.version !== "string") {
    throw new ProblemError("STATE_VERSION_INVALID", {
      status: 500,
      detail: `Cannot start: ${path} does not say of which version the state is`,
      found: text.slice(0, 80),
      expected: '{"schema":2,"version":"0.1.0"}',
      action: `Remove ${path} if no newer version ran here`,
    });
  }
  return found;
}
