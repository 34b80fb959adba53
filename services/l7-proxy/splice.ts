/** Passing bytes on as they are. @module */
import { type Inflow, type Socket, writeAll } from "./socket.ts";

/**
 * Passes on everything of one direction, and its end. @param moved called for each piece
 * @throws what read and write throw
 */
export async function splice(from: Inflow, to: Socket, moved: () => void): Promise<void> {
  for (;;) {
    if (from.size > 0) {
      await writeAll(to, from.bytes.subarray(from.start, from.end));
      from.use(from.end);
      moved();
    }
    if (from.size === 0 && !await from.fill()) break;
  }
  await to.closeWrite();
}
