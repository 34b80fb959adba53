/** Failures as CNI has them: a number, a sentence, details. @module */
import { ProblemError } from "@weir/common";

/** Codes of CNI's specification; from 100 on they are the plugin's own. */
export const CNI_CODES = {
  INCOMPATIBLE_VERSION: 1,
  UNKNOWN_CONTAINER: 3,
  INVALID_ENVIRONMENT: 4,
  IO_FAILURE: 5,
  DECODING_FAILURE: 6,
  INVALID_NETWORK_CONFIG: 7,
  TRY_AGAIN_LATER: 11,
  /** Of STATUS: ADD cannot be served. */
  NOT_AVAILABLE: 50,
  /** Of CHECK: the container's network is not what it was made. */
  NOT_AS_ADDED: 100,
} as const;

/** A failure that the runtime is told. */
export class CniError extends Error {
  override readonly name = "CniError";
  readonly number: number;
  readonly details: string;

  constructor(
    code: keyof typeof CNI_CODES,
    message: string,
    options: { details?: string; cause?: unknown } = {},
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.number = CNI_CODES[code];
    this.details = options.details ?? "";
  }
}

/** What is wrong with the request itself does not go away by trying again; all else may. */
export function toCniError(error: unknown): CniError {
  if (error instanceof CniError) return error;
  if (error instanceof ProblemError) {
    const isInvalid = error.code === "ENDPOINT_INVALID";
    const { action } = error.problem;
    return new CniError(isInvalid ? "INVALID_ENVIRONMENT" : "TRY_AGAIN_LATER", error.message, {
      details: action,
      cause: error,
    });
  }
  return new CniError("TRY_AGAIN_LATER", error instanceof Error ? error.message : String(error), {
    cause: error,
  });
}

/** The error as it is printed. */
export function cniErrorText(version: string, { number, message, details }: CniError): string {
  const told = { cniVersion: version, code: number, msg: message, ...(details === "" ? {} : { details }) };
  return `${JSON.stringify(told)}\n`;
}
