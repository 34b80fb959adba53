/**
 * What is wrong with a text of manifests, and where: all faults of a text, as lines and as one error.
 * @module
 */
import { ProblemError } from "../problem.ts";

/** Most faults of one text that are kept; more are counted. */
export const FAULTS_MAX = 100;

/** Why something is refused. */
export type FaultCode = "syntax" | "unknown-field" | "unsupported" | "invalid" | "limit";

/** One thing that is wrong, and where. */
export interface Fault {
  readonly code: FaultCode;
  /** `spec.ingress[0].toPorts[1].rules`; `""` for a whole document. */
  readonly path: string;
  /** From 1. */
  readonly line: number;
  readonly column: number;
  readonly detail: string;
}

/** `12:7 spec.ingress[0].toPorts: ...` */
export function formatFault(fault: Fault, file = ""): string {
  const where = `${file === "" ? "" : `${file}:`}${fault.line}:${fault.column}`;
  return `${where}${fault.path === "" ? "" : ` ${fault.path}`}: ${fault.detail}`;
}

/** A place in a document. */
export interface Place {
  readonly path: string;
  readonly line: number;
  readonly column: number;
}

/** The faults of one text, at most {@link FAULTS_MAX} of them, in the order found. */
export class FaultList {
  readonly faults: Fault[] = [];
  #more = 0;

  add(code: FaultCode, place: Place, detail: string): void {
    if (this.faults.length >= FAULTS_MAX) this.#more++;
    else this.faults.push({ code, path: place.path, line: place.line, column: place.column, detail });
  }

  /** Counts faults that were found elsewhere and are not listed. */
  omit(count: number): void {
    this.#more += count;
  }

  /** Faults beyond the limit, which are only counted. */
  get omitted(): number {
    return this.#more;
  }
}

/** What the error of a faulty text says beside the faults. */
export interface FaultProblemOptions {
  readonly code: string;
  readonly title: string;
  /** What was not taken: `policies`. */
  readonly what: string;
  readonly file?: string;
}

/** The faults of a text as the one error that is answered. */
export function faultProblem(
  { faults, faultsOmitted }: { readonly faults: readonly Fault[]; readonly faultsOmitted: number },
  { code, title, what, file = "" }: FaultProblemOptions,
): ProblemError {
  return new ProblemError(code, {
    status: 422,
    title,
    detail: `Cannot take ${what}: ${summarizeFaults(faults, faultsOmitted, file)}`,
    found: faults[0] ? formatFault(faults[0], file) : "",
    expected: "manifests without a fault",
    action: "Correct what is named and apply again; nothing was changed",
    causes: faults.map((fault) => ({
      path: `${file === "" ? "" : `${file}:`}${fault.line}:${fault.column}${
        fault.path === "" ? "" : ` ${fault.path}`
      }`,
      detail: fault.detail,
    })),
  });
}

/** The first fault, and how many more there are. */
export function summarizeFaults(faults: readonly Fault[], omitted: number, file = ""): string {
  const more = faults.length + omitted - 1;
  const first = faults[0] ? formatFault(faults[0], file) : "";
  return `${first}${more > 0 ? ` (and ${more} more fault${more > 1 ? "s" : ""})` : ""}`;
}
