/** Bytes or JSON that are not the message they were said to be. */
export class MessageError extends Error {
  override readonly name = "MessageError";
  readonly code = "MESSAGE_INVALID";
  /** @param path JSON path of the fault, `""` for the whole message */
  constructor(message: string, readonly path: string, options?: ErrorOptions) {
    super(message, options);
  }
}
