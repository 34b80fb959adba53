/** The key of sessions, which outlives the process: who was let in stays so when the service is started anew. @module */
import { randomBytes } from "node:crypto";
import { errorText, type Logger } from "@weir/common";
import { SESSION_KEY_BYTES } from "./sessions.ts";

/** Reads it, or makes it. Where it cannot be kept, it is this process's alone, and the log says so. */
export function sessionKey(path: string, log: Logger): Uint8Array {
  try {
    const found = Deno.readFileSync(path);
    if (found.length === SESSION_KEY_BYTES) return found;
    log.warn("The key of sessions is made anew", { path, bytes: found.length });
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) {
      log.warn("Cannot read the key of sessions", { path, error });
    }
  }
  const key = randomBytes(SESSION_KEY_BYTES);
  try {
    Deno.writeFileSync(`${path}.new`, key, { mode: 0o600 });
    Deno.renameSync(`${path}.new`, path);
  } catch (error) {
    log.warn("Cannot keep the key of sessions: browsers are let in anew after a restart", {
      path,
      error: errorText(error),
    });
  }
  return key;
}
