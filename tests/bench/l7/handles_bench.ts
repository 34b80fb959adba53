/**
 * What it takes to know whose a new connection is: processor time of the datapath's service and of the one who asks, for each connection, when handles are
 * told beforehand and when they are asked for, beside a listener that wants to know nothing. Real connections of a pod, redirected by the real programs.
 *
 *     iso deno run -A tests/bench/l7/handles_bench.ts [--rounds N]
 *
 * @module
 */
import { TestNode } from "../../../datapath/service/testing.ts";

const ROUNDS = Number(Deno.args[Deno.args.indexOf("--rounds") + 1]) || 3,
  CONNECTIONS = 1600,
  TICK_US = 10_000;
const MODES = ["unknown", "asked", "told"] as const;
/** Opens connections, so many at once, and waits for the end of each. */
const CLIENT = `
import socket, sys, threading
count, at_once = int(sys.argv[1]), int(sys.argv[2])
def run(n):
    for _ in range(n):
        c = socket.create_connection(("198.51.100.7", 8080))
        c.recv(1)
        c.close()
threads = [threading.Thread(target=run, args=(count // at_once,)) for _ in range(at_once)]
for t in threads: t.start()
for t in threads: t.join()
`;

/** Processor time of a process, microseconds. */
function usedUs(pid: number): number {
  const fields = Deno.readTextFileSync(`/proc/${pid}/stat`).split(") ")[1].split(" ");
  return (Number(fields[11]) + Number(fields[12])) * TICK_US;
}

const node = await TestNode.create("bench");
try {
  await node.start();
  await node.configure({ proxy: { port: 15001, uid: 0, prefixV4: "240.0.0.0/8" } });
  const pod = await node.pod("p");
  await node.request("PUT", "/v1/policies/p", {
    enforceEgress: true,
    entries: [{
      direction: "EGRESS",
      protocol: 6,
      port: 8080,
      portPrefixLength: 16,
      precedence: 1,
      ruleSet: 1,
      cookie: 7,
    }],
  });
  await node.request("PUT", "/v1/endpoints/p", node.endpoint(10, pod, { policy: "p" }));
  await node.request("POST", "/v1/sync", {});
  await node.exec("ip", "route", "add", "198.51.100.0/24", "via", "192.0.2.2");
  const listener = new Deno.Command("nsenter", {
    args: [
      `--net=/run/netns/${node.netns}`,
      Deno.execPath(),
      "run",
      "-A",
      new URL("handle_listener.ts", import.meta.url).pathname,
      node.socket,
    ],
    stdin: "piped",
    stdout: "piped",
  }).spawn();
  const reader = listener.stdout.getReader(), writer = listener.stdin.getWriter();
  const spent = new Map<string, number[]>();
  for (let round = 0; round <= ROUNDS; round++) {
    for (const atOnce of [1, 32]) {
      for (const mode of MODES) {
        await writer.write(new TextEncoder().encode(mode));
        await reader.read();
        const before = usedUs(listener.pid), datapathBefore = usedUs(node.pid);
        await new Deno.Command("ip", {
          args: ["netns", "exec", pod, "python3", "-c", CLIENT, `${CONNECTIONS}`, `${atOnce}`],
        }).output();
        const us = [usedUs(listener.pid) - before, usedUs(node.pid) - datapathBefore]
          .map((us) => us / CONNECTIONS);
        // The first round warms up.
        if (round === 0) continue;
        for (const [at, who] of ["proxy", "datapath"].entries()) {
          const key = `${atOnce} at once, ${mode}, ${who}`;
          spent.set(key, [...spent.get(key) ?? [], us[at]]);
        }
      }
    }
  }
  await writer.close();
  await reader.cancel();
  await listener.status;
  const middle = (values: number[]) => values.toSorted((a, b) => a - b)[values.length >> 1];
  for (const atOnce of [1, 32]) {
    const extra = new Map<string, number>();
    const of = (mode: string, who: string) => spent.get(`${atOnce} at once, ${mode}, ${who}`)!;
    for (const mode of MODES) {
      console.log(
        `${atOnce} at once, ${mode}: us per connection of the proxy ${
          of(mode, "proxy").map((us) => us.toFixed(0)).join(" ")
        }, of the datapath ${of(mode, "datapath").map((us) => us.toFixed(0)).join(" ")}`,
      );
      extra.set(
        mode,
        ["proxy", "datapath"].reduce(
          (sum, who) => sum + middle(of(mode, who)) - middle(of("unknown", who)),
          0,
        ),
      );
    }
    const asked = extra.get("asked")!, told = extra.get("told")!;
    console.log(
      `${atOnce} at once: to know costs ${asked.toFixed(0)} us asked, ${told.toFixed(0)} us told; ratio ${
        (told / asked).toFixed(2)
      }`,
    );
  }
} catch (error) {
  console.error(node.log);
  throw error;
} finally {
  await node.close();
}
