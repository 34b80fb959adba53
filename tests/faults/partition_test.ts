/**
 * The network between a node and the control plane loses packets, and is cut: traffic goes on under what was in force, it is
 * said who is cut off since when, and after the healing everything is as it was applied.
 *
 * In a lab all services share one file system, so node-2 speaks to the control plane by relays: a unix socket on node-2,
 * TCP over the lab's underlay, the service's own socket on node-1. What is done to that TCP is what a network does.
 * @module
 */
import assert from "node:assert/strict";
import { canRun, Lab, run } from "../e2e/weir.ts";
import { until } from "@weir/common/testing/until";
import { CAST, clients, isWell, pidOf, pod, signal, Witness } from "./faulty_lab.ts";

const lab = new Lab(`part${Deno.pid}`);
const SERVICES = ["identity-allocator", "policy-engine", "load-balancer"];
/** TCP ports of the relays on node-1. */
const PORT = 17441;
const NODE_1 = "172.30.0.11";
const netns = (node: string) => `weir-${lab.name}--${node}`;

/** "near" serves unix sockets on node-2 and connects to TCP; "far" the other way. Late while the file `slow` is there. */
const RELAY = `import asyncio,os,random,sys
async def copy(a,b):
    try:
        while data := await a.read(65536):
            if os.path.exists(slow): await asyncio.sleep(0.08+0.04*random.random())
            b.write(data); await b.drain()
    except OSError: pass
    finally: b.close()
def relay(connect):
    async def serve(r,w):
        try: r2,w2 = await connect()
        except OSError: w.close(); return
        await asyncio.gather(copy(r,w2),copy(r2,w))
    return serve
kind,port,address,slow,*paths = sys.argv[1:]
async def main():
    for i,path in enumerate(paths):
        p = int(port)+i
        if kind == 'near':
            await asyncio.start_unix_server(relay(lambda p=p: asyncio.open_connection(address,p)),path)
            os.chmod(path,0o666)
        else:
            await asyncio.start_server(relay(lambda path=path: asyncio.open_unix_connection(path)),address,p)
    await asyncio.Event().wait()
asyncio.run(main())`;

let directory = "";
const slow = () => `${directory}/slow`;
const relays: Deno.ChildProcess[] = [];

async function ok(...words: string[]): Promise<void> {
  const { code, err } = await run(words[0], words.slice(1));
  assert.equal(code, 0, `${words.join(" ")}: ${err}`);
}
const onNode2 = (...words: string[]) => ok("nsenter", `--net=/run/netns/${netns("node-2")}`, "--", ...words);

function relay(kind: "near" | "far", node: string, paths: string[]): void {
  relays.push(
    new Deno.Command("nsenter", {
      args: [
        `--net=/run/netns/${netns(node)}`,
        "--",
        "python3",
        "-c",
        RELAY,
        kind,
        `${PORT}`,
        NODE_1,
        slow(),
        ...paths,
      ],
      stdin: "null",
      stdout: "null",
    }).spawn(),
  );
}

const PORTS = `${PORT}:${PORT + SERVICES.length - 1}`;
/** What node-2 exchanges with the control plane; pods' traffic is not among it. */
const RULES = [
  ["OUTPUT", "-p", "tcp", "--dport", PORTS],
  ["INPUT", "-p", "tcp", "--sport", PORTS],
];

/** Loses packets of {@link RULES} until it is healed: all, or those that `match` says. */
async function losing(...match: string[]): Promise<AsyncDisposable & { heal(): Promise<void> }> {
  for (const rule of RULES) await onNode2("iptables", "-I", ...rule, ...match, "-j", "DROP");
  let healed = false;
  const heal = async () => {
    if (healed) return;
    healed = true;
    for (const rule of RULES) await onNode2("iptables", "-D", ...rule, ...match, "-j", "DROP");
  };
  return { heal, [Symbol.asyncDispose]: heal };
}

/** Delays by 80 to 120 ms what node-2 exchanges with the control plane. This kernel may have no netem. */
async function delayed(): Promise<AsyncDisposable> {
  await Deno.writeTextFile(slow(), "");
  return { [Symbol.asyncDispose]: () => Deno.remove(slow()) };
}

if (canRun) {
  Deno.test.beforeAll(async () => {
    directory = await Deno.makeTempDir();
    await Deno.chmod(directory, 0o755);
    const path = (service: string) => `${directory}/${service}.sock`;
    const up = lab.up(
      2,
      CAST,
      SERVICES.flatMap((service) => ["--agent", `node-2:${service}=unix:${path(service)}`]),
    );
    up.catch(() => {});
    await until("the nodes' namespaces are there", async () => {
      await Deno.lstat(`/run/netns/${netns("node-2")}`);
      return (await run("ip", ["-n", netns("node-2"), "-o", "address", "show", "dev", "eth0"])).out.includes(
        "inet ",
      );
    });
    relay("far", "node-1", SERVICES.map((service) => `/run/weir/${lab.name}-node-1/${service}.sock`));
    relay("near", "node-2", SERVICES.map(path));
    await up;
    await lab.inForce();
  });
  Deno.test.afterAll(async () => {
    await lab.down();
    for (const child of relays) {
      signal(child.pid, "SIGKILL");
      await child.status;
    }
    await Deno.remove(directory, { recursive: true });
  });
}

Deno.test({
  name:
    "a network to the control plane that loses a fifth and delays: policies and pods come into force all the same",
  ignore: !canRun,
  async fn() {
    await using witness = await Witness.begin(lab);
    {
      await using _delay = await delayed();
      await using _loss = await losing("-m", "statistic", "--mode", "random", "--probability", "0.2");
      await lab.apply(clients("client", "lossy"));
      // The lab itself waits for a minute.
      const put = () => lab.weir(["lab", "apply", "-f", "-"], pod("lossy-1", 2));
      await until("the pod is ready", async () => (await put()).code === 0);
      await lab.inForce();
      await lab.expect(["from: lossy-1, to: server-2, port: 80, expect: allow"]);
      await witness.goesOn("while packets are lost");
    }
    await lab.ok(["lab", "delete", "pod/default/lossy-1"]);
    await lab.apply(clients("client"));
    await isWell(lab);
  },
});

Deno.test({
  name:
    "node-2 is cut off from the control plane: traffic goes on, it is said, and the healing brings what was applied",
  ignore: !canRun,
  async fn() {
    await using witness = await Witness.begin(lab);
    await lab.put(pod("cut-1", 1));
    await using partition = await losing();
    await lab.weir(["policy", "apply", "-f", "-", "--timeout", "1s"], clients("client", "cut"));
    const near = "- { from: cut-1, to: server-1, port: 80, expect: allow }\n";
    await until(
      "the policy is in force at node-1",
      async () => (await lab.weir(["lab", "test", "-"], near)).code === 0,
    );
    await until("weir status says that node-2 is cut off, or that what it has is stale", async () => {
      const { code, out } = await lab.weir(["status"]);
      return code === 1 && /node-2: (PARTITIONED|STALE)/.test(out);
    });
    // Also when the node's endpoint manager begins anew without the control plane.
    signal(await pidOf(lab, "endpoint-manager", "node-2"), "SIGKILL");
    await witness.goesOn("while node-2 is cut off and its endpoint manager begins anew");
    await lab.expect([
      "from: cut-1, to: server-2, port: 80, expect: deny",
      "from: stranger-1, to: server-2, port: 80, expect: deny",
      "from: client-1, to: server-2, port: 80, expect: allow",
    ]);
    await partition.heal();
    await isWell(lab);
    await lab.inForce();
    await lab.expect(["from: cut-1, to: server-2, port: 80, expect: allow"]);
    await witness.goesOn("after the healing");
    await lab.ok(["lab", "delete", "pod/default/cut-1"]);
    await lab.apply(clients("client"));
  },
});
