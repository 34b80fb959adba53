/**
 * A listener for the bench, at the handles' port: `handle_listener.ts DATAPATH_SOCKET`. It closes each connection when it knows whose it is. A line of its input says how it
 * is to know: `unknown` (it does not want to), `asked`, `told`; it answers with the same when it does so.
 * @module
 */
import { WeirClient } from "@weir/client";
import { MetricsRegistry, systemClock } from "@weir/common";
import { HandlePrefixes, HandleSource } from "@weir/l7-proxy";

const [socket] = Deno.args;
const prefixes = new HandlePrefixes(["240.0.0.0/8"]);
const source = new HandleSource({
  datapath: new WeirClient({ socket }),
  clock: systemClock,
  metrics: new MetricsRegistry(),
});
let mode = "unknown", following = new AbortController();

async function serve(accepted: Deno.TcpConn): Promise<void> {
  const { hostname: address, port } = accepted.remoteAddr;
  const number = prefixes.numberOf(accepted.localAddr.hostname);
  if (number === undefined) throw new Error(`${accepted.localAddr.hostname} is no handle's address`);
  if (mode !== "unknown" && await source.get(number, { address, port }) === undefined) {
    throw new Error(`Nobody has ${number}`);
  }
  accepted.close();
}

async function accept(): Promise<void> {
  for await (const accepted of Deno.listen({ hostname: "0.0.0.0", port: 15001 })) void serve(accepted);
}

void accept();
for await (const text of Deno.stdin.readable.pipeThrough(new TextDecoderStream())) {
  mode = text.trim();
  following.abort();
  while (source.isTold) await systemClock.sleep(10);
  if (mode === "told") {
    following = new AbortController();
    void source.follow(following.signal);
    while (!source.isTold) await systemClock.sleep(10);
  }
  console.log(mode);
}
