/** Passing on the bodies of one stream: within the receiver's windows, in order, the end last. @module */
import { FLAG, FRAME } from "./frame.ts";
import type { Side, Way } from "./side.ts";
import type { Stream } from "./stream.ts";

const NOTHING = new Uint8Array(0);

/**
 * Passes on bytes of one direction as far as the receiver takes them, and its end behind the last; the rest is held.
 * @returns false: something is held
 */
export function pass(from: Side, to: Side, stream: Stream, way: Way, bytes: Uint8Array): boolean {
  const count = way.heldBytes > 0 ? 0 : Math.max(0, Math.min(bytes.length, way.window, to.window));
  const isWhole = count === bytes.length && way.heldBytes === 0;
  if (count > 0 || (isWhole && (bytes.length === 0 || way.isEnded))) {
    send(to, stream, way, bytes.subarray(0, count), isWhole);
  }
  if (isWhole || bytes.length === 0) return true;
  from.hold(way, bytes.subarray(count));
  return false;
}

/** Sends bytes for which there is room. @param isLast nothing is held behind them */
function send(to: Side, stream: Stream, way: Way, bytes: Uint8Array, isLast: boolean): void {
  const ends = isLast && way.isEnded, { trailer } = way;
  way.window -= bytes.length;
  to.window -= bytes.length;
  const endsHere = ends && trailer === undefined;
  if (bytes.length > 0 || endsHere) {
    to.out.frame(FRAME.DATA, endsHere ? FLAG.END_STREAM : 0, stream.id, bytes);
  }
  if (!ends) return;
  if (trailer !== undefined) {
    // A block of no fields would be no block.
    if (trailer.length > 0) to.out.block(stream.id, to.encoder.encode(trailer), true);
    else to.out.frame(FRAME.DATA, FLAG.END_STREAM, stream.id, NOTHING);
  }
  way.isDone = true;
}

/** Sends what is held of a stream, as far as the receiver takes it now. */
export function resume(from: Side, to: Side, stream: Stream, way: Way): void {
  while (way.held.length > 0) {
    const [first] = way.held, count = Math.min(first.length, way.window, to.window);
    if (count <= 0) return;
    if (count === first.length) way.held.shift();
    else way.held[0] = first.subarray(count);
    way.heldBytes -= count;
    from.letGo(count);
    send(to, stream, way, first.subarray(0, count), way.held.length === 0);
  }
}
