/** Typed errors of the loader: action, what was found, what to do. @module */
import { errnoName } from "./errno.ts";

/** Codes of {@link BpfError}; append-only. */
export type BpfErrorCode =
  | "library-missing"
  | "open-failed"
  | "load-failed"
  | "gate-rejected"
  | "gate-failed"
  | "map-failed"
  | "map-full"
  | "map-mismatch"
  | "attach-failed"
  | "pin-failed"
  | "test-run-failed"
  | "not-found"
  | "syscall-failed";

/** What an error knows beside its message. */
export interface BpfErrorOptions extends ErrorOptions {
  /** Positive error number of the kernel, 0 if it is not from the kernel. */
  errno?: number;
  found?: string;
  expected?: string;
  /** What to do. */
  action?: string;
}

/** Any failure of the loader. */
export class BpfError extends Error {
  override readonly name: string = "BpfError";
  readonly errno: number;
  readonly found?: string;
  readonly expected?: string;
  readonly action?: string;

  constructor(readonly code: BpfErrorCode, message: string, options: BpfErrorOptions = {}) {
    super(options.errno ? `${message}: ${errnoName(options.errno)}` : message, options);
    this.errno = options.errno ?? 0;
    this.found = options.found;
    this.expected = options.expected;
    this.action = options.action;
  }
}

/** An object did not load; `verifierLines` are the last useful lines of the kernel's log. */
export class LoadError extends BpfError {
  override readonly name = "LoadError";

  constructor(
    readonly object: string,
    errno: number,
    readonly verifierLines: string[],
    /** Everything that libbpf printed. */
    readonly log: string,
  ) {
    const tail = verifierLines.length > 0 ? `\n  ${verifierLines.join("\n  ")}` : "";
    super("load-failed", `Cannot load object ${object} (${errnoName(errno)})${tail}`);
    Object.defineProperty(this, "errno", { value: errno });
  }
}

/** A map takes no more entries. */
export class MapFull extends BpfError {
  override readonly name = "MapFull";

  constructor(readonly map: string, readonly entriesMax: number, what = "entry") {
    super("map-full", `Cannot add ${what} to map ${map}: it holds ${entriesMax} of ${entriesMax} entries`, {
      found: `${entriesMax}`,
      expected: `fewer than ${entriesMax}`,
    });
  }
}

/**
 * The lines of libbpf's output that tell why the kernel refused a program: what stands in the verifier's log before its
 * statistics, at most `linesMax` of it. Lines of register states are kept only when nothing else is there.
 */
export function lastVerifierLines(log: string, linesMax = 8): string[] {
  const begin = log.indexOf("-- BEGIN PROG LOAD LOG --");
  const end = log.indexOf("-- END PROG LOAD LOG --");
  const part = begin >= 0
    ? log.slice(begin, end > begin ? end : undefined).split("\n").slice(1)
    : log.split("\n");
  const lines = part.map((line) => line.trimEnd()).filter((line) =>
    line !== "" &&
    !/^(processed \d+ insns|verification time|stack depth|libbpf: (prog|failed|-- ))/.test(line)
  );
  return lines.slice(-linesMax);
}
