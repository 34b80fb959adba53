/** `sysdump.json` of a sysdump: when and of what it was made, and what it lacks. @module */
import { ArchiveError, type ArchiveFiles } from "./archive.ts";

/** Number of the layout; a newer one is refused. */
export const FORMAT = 1;
/** Name of the file. */
export const MANIFEST_FILE = "sysdump.json";

/** What a service did not answer. */
export interface Failure {
  /** File that would hold the answer. */
  readonly file: string;
  /** As of a question: it hung, nobody listened, it refused; "left out": it was too large, or the time was over. */
  readonly kind: "hung" | "away" | "refused" | "left out";
  readonly error: string;
}

/** The manifest. */
export interface Manifest {
  readonly format: number;
  readonly version: string;
  readonly madeUnixMs: number;
  /** Name of the lab; undefined: a host's own Weir, or a cluster's. */
  readonly lab?: string;
  /** URL of the API server of a cluster of Kubernetes; undefined: it is none. */
  readonly kubernetes?: string;
  readonly nodes: readonly string[];
  readonly failures: readonly Failure[];
}

/** @throws {ArchiveError} there is none, or it is of a newer Weir, or no manifest */
export function readManifest(files: ArchiveFiles): Manifest {
  const bytes = files.get(MANIFEST_FILE);
  if (bytes === undefined) throw new ArchiveError(`it is no sysdump: it has no ${MANIFEST_FILE}`);
  let value: Partial<Manifest>;
  try {
    value = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch (cause) {
    throw new ArchiveError(`${MANIFEST_FILE} is no JSON`, { cause });
  }
  const isText = (one: unknown) => typeof one === "string";
  const isGood = typeof value === "object" && value !== null && typeof value.format === "number" &&
    isText(value.version) && Number.isFinite(value.madeUnixMs) && Array.isArray(value.nodes) &&
    value.nodes.length > 0 && value.nodes.every(isText) && (value.lab === undefined || isText(value.lab)) &&
    (value.kubernetes === undefined || isText(value.kubernetes)) &&
    Array.isArray(value.failures) && value.failures.every((one) => isText(one?.file) && isText(one?.error));
  if (!isGood) throw new ArchiveError(`${MANIFEST_FILE} does not say what it should`);
  if (value.format !== FORMAT) {
    throw new ArchiveError(
      `it has format ${value.format}, this Weir reads ${FORMAT}: it was made by ${value.version}`,
    );
  }
  return value as Manifest;
}
