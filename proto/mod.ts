/**
 * Every message that crosses a process. Messages of a package come from its own entry point:
 * `import { Policy } from "@weir/proto/policy"`.
 * @module
 */
export { type Init, type Message, MessageError } from "./codec.ts";
