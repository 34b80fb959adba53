/**
 * What can go wrong between the bytes of a program and a report that may be believed. Each is an answer in
 * its own right: the gate turns every one of them into an aborted load.
 *
 * @module
 */

/** The kinds of failure; append-only, they appear in logs and metrics. */
export type SandboxErrorCode =
  | "library-missing"
  | "engine-failed"
  | "module-rejected"
  | "out-of-fuel"
  | "out-of-memory"
  | "trapped"
  | "malformed-report";

/** Any failure of the sandbox; `code` is stable, `message` is for people. */
export class SandboxError extends Error {
  override readonly name: string = "SandboxError";

  constructor(readonly code: SandboxErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
  }
}

/** Wasmtime's C library is not where it was looked for, or not of the version whose layouts are known. */
export class LibraryMissing extends SandboxError {
  override readonly name = "LibraryMissing";

  constructor(readonly path: string, cause: unknown) {
    super(
      "library-missing",
      `Cannot load Wasmtime's C library: ${path} (${(cause as Error)?.message ?? cause}); run scripts/setup`,
      { cause },
    );
  }
}

/** The module is not WebAssembly, wants imports, or lacks an export that the host needs. */
export class ModuleRejected extends SandboxError {
  override readonly name = "ModuleRejected";

  constructor(what: string) {
    super("module-rejected", `Cannot use the module: ${what}`);
  }
}

/** The verifier used up its fuel: the program is rejected as *limit reached*. */
export class OutOfFuel extends SandboxError {
  override readonly name = "OutOfFuel";

  constructor(readonly fuelMax: bigint, readonly timeUs: number) {
    super(
      "out-of-fuel",
      `Cannot verify the program: ${fuelMax} units of fuel used up after ${Math.round(timeUs / 1000)} ms`,
    );
  }
}

/** The verifier asked for more memory than it may have: the program is rejected as *limit reached*. */
export class OutOfMemory extends SandboxError {
  override readonly name = "OutOfMemory";

  constructor(readonly memoryBytesMax: number, readonly memoryBytes: number) {
    super(
      "out-of-memory",
      `Cannot verify the program: the verifier holds ${memoryBytes} of ${memoryBytesMax} bytes and asked for more`,
    );
  }
}

/** The verifier trapped: a defect of the verifier, or the answer to hostile bytes; never an accept. */
export class Trapped extends SandboxError {
  override readonly name = "Trapped";

  constructor(readonly trapCode: number | null, readonly trapMessage: string) {
    super("trapped", `Cannot verify the program: the verifier trapped: ${trapMessage}`);
  }
}

/** The report is not one that the verifier could have meant: bad bounds, bad numbers, the hash of other bytes. */
export class MalformedReport extends SandboxError {
  override readonly name = "MalformedReport";

  constructor(what: string, options?: ErrorOptions) {
    super("malformed-report", `Cannot believe the verifier's report: ${what}`, options);
  }
}
