/**
 * `node:crypto` for what is needed now and then: it takes 20 ms of processor time to load, and a command that asks a socket of this
 * host has no certificate to read.
 *
 * @module
 */

/** The module, loaded when it is first asked for. */
export function nodeCrypto(): typeof import("node:crypto") {
  return globalThis.process.getBuiltinModule("node:crypto");
}
