// A proxy that splices, as unprivileged as the real one: it accepts at a handle's address and connects on to that same address.
// Prints a line per connection: handle, client, client's port, peer of the upstream socket and its port; or the error.
const port = Number(Deno.args[0]);
async function copy(from: Deno.TcpConn, to: Deno.TcpConn): Promise<void> {
  const buffer = new Uint8Array(1 << 16);
  try {
    for (let read = await from.read(buffer); read !== null; read = await from.read(buffer)) {
      for (let at = 0; at < read;) at += await to.write(buffer.subarray(at, read));
    }
    await to.closeWrite();
  } catch {
    to.close();
  }
}
async function serve(client: Deno.TcpConn): Promise<void> {
  const { hostname } = client.localAddr;
  try {
    const upstream = await Deno.connect({ hostname, port });
    const { remoteAddr: from } = client, { remoteAddr: to } = upstream;
    console.log(`${hostname} ${from.hostname} ${from.port} ${to.hostname} ${to.port}`);
    await Promise.all([copy(client, upstream), copy(upstream, client)]);
  } catch (error) {
    console.log(`error ${hostname} ${error}`);
  }
  try {
    client.close();
  } catch { /* it is */ }
}
const listener = Deno.listen({ hostname: "::", port }); // both families
console.log("ready");
for await (const client of listener) serve(client);
