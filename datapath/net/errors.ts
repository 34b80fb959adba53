/** Typed errors of devices, routes and namespaces. @module */

/** Codes of {@link NetError}; append-only. */
export type NetErrorCode =
  | "name-taken"
  | "exists"
  | "not-found"
  | "namespace-gone"
  | "not-permitted"
  | "invalid"
  | "failed";

/** What the kernel refused. */
export class NetError extends Error {
  override readonly name = "NetError";

  /** @param errno positive error number, 0 when it is not from the kernel */
  constructor(readonly code: NetErrorCode, message: string, readonly errno = 0, options?: ErrorOptions) {
    super(message, options);
  }

  /** The error for an errno of an action such as "create device lxc1". */
  static fromErrno(action: string, errno: number, kernelMessage = ""): NetError {
    const known: Record<number, [NetErrorCode, string]> = {
      1: ["not-permitted", "the process lacks CAP_NET_ADMIN or CAP_SYS_ADMIN"],
      2: ["not-found", "it does not exist"],
      3: ["not-found", "it does not exist"],
      6: ["not-found", "it does not exist"],
      13: ["not-permitted", "access is denied"],
      17: ["exists", "it exists already"],
      19: ["not-found", "the device does not exist"],
      98: ["exists", "it is in use"],
      22: ["invalid", "the kernel finds an argument invalid"],
    };
    const [code, text] = known[errno] ?? ["failed", `errno ${errno}`];
    return new NetError(code, `Cannot ${action}: ${kernelMessage || text}`, errno);
  }
}
