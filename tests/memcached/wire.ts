/** Bytes to a server and back, as latin1 text. @module */

const latin1 = new TextDecoder("latin1");

function bytesOf(text: string): Uint8Array {
  return Uint8Array.from(text, (character) => character.charCodeAt(0));
}

/** Sends, and reads until the answer ends so. */
export async function exchange(port: number, text: string, end: string): Promise<string> {
  using socket = await Deno.connect({ port });
  await write(socket, text);
  return await read(socket, (got) => got.endsWith(end));
}

/** Sends in pieces while it reads, up to the server's end. */
export async function closing(port: number, text: string, pieceBytes: () => number): Promise<string> {
  using socket = await Deno.connect({ port });
  socket.setNoDelay(true);
  const [got] = await Promise.all([
    read(socket, () => false),
    write(socket, text, pieceBytes).catch(() => {}),
  ]);
  return got;
}

/** Likewise, and ends its own side: whatever comes until the other side ends too, also by a reset. */
export async function readAll(port: number, text: string, pieceBytes: () => number): Promise<string> {
  using socket = await Deno.connect({ port });
  socket.setNoDelay(true);
  const sent = write(socket, text, pieceBytes).then(() => socket.closeWrite()).catch(() => {});
  const [got] = await Promise.all([read(socket, () => false), sent]);
  return got;
}

async function write(socket: Deno.Conn, text: string, pieceBytes = () => text.length): Promise<void> {
  const bytes = bytesOf(text);
  for (let at = 0; at < bytes.length;) at += await socket.write(bytes.subarray(at, at + pieceBytes()));
}

async function read(socket: Deno.Conn, isWhole: (got: string) => boolean): Promise<string> {
  const buffer = new Uint8Array(65_536);
  let got = "";
  try {
    while (!isWhole(got)) {
      const count = await socket.read(buffer);
      if (count === null) break;
      got += latin1.decode(buffer.subarray(0, count));
    }
  } catch (error) {
    if (!(error instanceof Deno.errors.ConnectionReset || error instanceof Deno.errors.BrokenPipe)) {
      throw error;
    }
  }
  return got;
}
