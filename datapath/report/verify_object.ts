/** Verifies all programs of one object. @module */
import {
  BpfObject,
  ObjectError,
  type ObjectOptions,
  type ObjectProgram,
  requestOf,
  settle,
} from "@weir/object";
import { codeLabel, verify, type VerifyReport, type VerifyRequest } from "@weir/verifier";
import { type Entry, entryOf, entryOfFailure, entryOfObjectError, notesOf } from "./entry.ts";
import { codeName, pageOf } from "./pages.ts";
import { HALF_OF_LIMIT, MISSING_IN_KERNEL, NO_PROGRAM, VERIFIER_FAILED } from "./pages_object.ts";
import { ignoredBy, releaseOf, wordsOf } from "./kernel_ignorance.ts";
import { missingIn } from "./requirement.ts";

/** How to verify. */
export interface VerifyObjectOptions extends ObjectOptions {
  /** Only the program of this name, or those of this section. */
  readonly program?: string;
  /** Release whose lacks are reported, `5.15`; default none. */
  readonly kernel?: string;
  /** Count visits per source line. Default false. */
  readonly recordVisits?: boolean;
  /**
   * Also refuse uninitialised stack, addresses that leave the program and unaligned accesses; and what is else only
   * warned of: more than half of the visit limit, and what `kernel` lacks. Default false.
   */
  readonly strict?: boolean;
  /** Clock in milliseconds; default `performance.now`. */
  readonly now?: () => number;
}

/** Answers one request; the sandbox or {@link verify} on a compiled module. */
export type Verifier = (request: VerifyRequest) => VerifyReport;

/** The plain verifier over a compiled module. */
export function verifierOf(module: WebAssembly.Module): Verifier {
  return (request) => verify(module, request);
}

/**
 * One entry per program, in the object's order; one entry when the object cannot be read. Never throws for what is in `data`.
 * @param path Name of the object in the entries.
 * @param data Contents of the object file.
 */
export function verifyObject(
  path: string,
  data: Uint8Array,
  verifier: Verifier,
  options: VerifyObjectOptions = {},
): Entry[] {
  let object: BpfObject;
  try {
    object = BpfObject.parse(data, {
      ...options,
      name: options.name ?? path.slice(path.lastIndexOf("/") + 1),
    });
  } catch (error) {
    if (error instanceof ObjectError) return [entryOfObjectError(path, undefined, error)];
    throw error;
  }
  if (object.programs.length === 0) {
    return [entryOfFailure(path, undefined, NO_PROGRAM, "The object has no program in a section of its own")];
  }
  return object.programs
    .filter((program) =>
      options.program === undefined || program.name === options.program || program.section === options.program
    )
    .map((program) => verifyProgram(path, object, program, verifier, options));
}

/** What would else be a warning beside an accept is the verdict. */
function withoutWarnings(entry: Entry, kernel: string | undefined): Entry {
  if (entry.verdict !== "accepted") return entry;
  const verdict = (code: number, verdict: Entry["verdict"], message: string): Entry => ({
    ...entry,
    verdict,
    code: codeLabel(code),
    name: codeName(code),
    message,
    suggestion: pageOf(code)!.fix,
  });
  if (entry.missing.length > 0) {
    const names = entry.missing.map(({ name, since }) => `${name} (since ${since})`).join(", ");
    return verdict(MISSING_IN_KERNEL, "unsupported", `Linux ${kernel} lacks ${names}`);
  }
  if (entry.budget !== null && entry.budget.warning !== "") {
    return verdict(HALF_OF_LIMIT, "limit", entry.budget.warning);
  }
  return entry;
}

function verifyProgram(
  path: string,
  object: BpfObject,
  program: ObjectProgram,
  verifier: Verifier,
  options: VerifyObjectOptions,
): Entry {
  const now = options.now ?? (() => performance.now());
  try {
    const asked = requestOf(object, program, {
      recordVisits: options.recordVisits ?? false,
      strict: options.strict ?? false,
    });
    const { request, source } = asked;
    const started = now();
    const notes = notesOf(object, program);
    let report: VerifyReport;
    try {
      report = settle(asked, verifier);
      const ignores = options.config === undefined ? [] : ignoredBy(options.config.version);
      if (report.verdict === "accepted" && ignores.length > 0) {
        const strictly = settle({ ...asked, request: { ...request, kernelIgnores: ignores } }, verifier);
        if (strictly.verdict !== "accepted") {
          report = strictly;
          notes.push(
            `The program is safe, but ${
              releaseOf(options.config!.version)
            } cannot see it: its verifier knows nothing of ${wordsOf(ignores)}`,
          );
        }
      }
    } catch (error) {
      // Kernel types that cannot be read are nothing that the verifier did.
      if (error instanceof ObjectError) throw error;
      // A trap, exhausted memory or a malformed answer: never an accept.
      return entryOfFailure(
        path,
        program,
        VERIFIER_FAILED,
        `The verifier broke down: ${(error as Error).message}`,
      );
    }
    const entry = entryOf(path, program, report, source, {
      timeUs: Math.round((now() - started) * 1000),
      missing: options.kernel === undefined ? [] : missingIn(options.kernel, request, source),
      notes,
    });
    return options.strict ? withoutWarnings(entry, options.kernel) : entry;
  } catch (error) {
    if (error instanceof ObjectError) return entryOfObjectError(path, program, error);
    throw error;
  }
}
