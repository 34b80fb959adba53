/** Lines of what a program writes. @module */

/** Longest line that is kept. */
const LINE_LENGTH_MAX = 64 << 20;

/** The whole lines, as they come. @throws {Error} one is longer than 64 MiB */
export async function* linesOf(output: AsyncIterable<Uint8Array<ArrayBuffer>>): AsyncGenerator<string> {
  const decoder = new TextDecoder();
  // Of a long line the pieces, for joining it anew with each would cost its square.
  let pieces: string[] = [], length = 0;
  for await (const bytes of output) {
    const [head, ...lines] = decoder.decode(bytes, { stream: true }).split("\n");
    pieces.push(head);
    length += head.length;
    if (length > LINE_LENGTH_MAX) throw new Error(`a line has more than ${LINE_LENGTH_MAX} characters`);
    for (const line of lines) {
      yield pieces.join("");
      pieces = [line];
      length = line.length;
    }
  }
}
