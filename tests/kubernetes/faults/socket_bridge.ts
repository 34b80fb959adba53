/**
 * Leads TCP connections to a unix socket of this machine: `socket_bridge.ts ADDRESS PORT SOCKET`. Says `ready` when it listens.
 * Run in another network, it gives that network a server that listens on a socket alone.
 * @module
 */
const [hostname, port, path] = Deno.args;
const listener = Deno.listen({ hostname, port: Number(port) });
console.log("ready");
for await (const near of listener) void lead(near);

/** Both ways, until either side ends. */
async function lead(near: Deno.TcpConn): Promise<void> {
  try {
    using far = await Deno.connect({ transport: "unix", path });
    await Promise.race([near.readable.pipeTo(far.writable), far.readable.pipeTo(near.writable)]);
  } catch { /* a side broke, and the other learns it by its end */ }
  try {
    near.close();
  } catch { /* it is closed */ }
}
