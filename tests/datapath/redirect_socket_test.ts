/** Sockets of a cgroup endpoint whose connections the proxy judges: real processes, real packets, a real, unprivileged proxy. */
import assert from "node:assert/strict";
import { until } from "@weir/common/testing/until";
import { attachCgroup, AttachType, type BpfLink } from "@weir/loader";
import * as abi from "@weir/maps";
import { inCgroup } from "../../services/agent/proxy_cgroup.ts";
import { type Cluster, type Place, WORLD } from "./cluster.ts";
import { kernelTest } from "./kernel_test_case.ts";
import { newCgroup } from "./own_cgroup.ts";
import { TCP } from "./packet.ts";
import { type Proxy, PROXY_PORT } from "./proxy.ts";
import { BOTH_FAMILIES, DENIED, EGRESS, PLAIN, PORT, withProxy } from "./redirect_bed.ts";
import { setBackend, setFrontend, setSelection } from "./services.ts";

const CLIENT = 9, SERVER = 10, CLIENT_IDENTITY = 3000, SERVER_IDENTITY = 3001;

/** Asks as peer_client.py does, and says whom the socket takes itself and its peer for. */
const ASK = `
import socket, sys
host, port = sys.argv[1], int(sys.argv[2])
s = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
s.settimeout(float(sys.argv[3]))
try:
    s.connect((host, port))
    for line in sys.stdin:
        s.sendall(line.strip().encode() + b"?")
        print(s.recv(1000).decode().strip(), *s.getsockname()[:2], *s.getpeername()[:2], flush=True)
except OSError as error:
    print("error", error.errno, error, flush=True)
`;

/** A process of a cgroup endpoint that asks when told. */
class Asker implements AsyncDisposable {
  readonly #process: Deno.ChildProcess;
  readonly #reader: ReadableStreamDefaultReader<string>;
  readonly #writer: WritableStreamDefaultWriter<Uint8Array>;
  constructor(cluster: Cluster, cgroup: string, to: string, port = PORT, patience = 20) {
    const words = ["ip", "netns", "exec", cluster.netns("node1"), "python3", "-uc", ASK];
    const [command, ...args] = inCgroup(cgroup, [...words, to, `${port}`, `${patience}`]);
    this.#process = new Deno.Command(command, { args, stdin: "piped", stdout: "piped" }).spawn();
    this.#reader = this.#process.stdout.pipeThrough(new TextDecoderStream()).getReader();
    this.#writer = this.#process.stdin.getWriter();
  }
  async ask(): Promise<string[]> {
    await this.#writer.write(new TextEncoder().encode("hello\n")).catch(() => {});
    let text = "";
    while (!text.endsWith("\n")) {
      const { value } = await this.#reader.read();
      if (value === undefined) break;
      text += value;
    }
    return text.trim().split(" ");
  }
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#writer.close().catch(() => {});
    await this.#process.status;
    await this.#reader.cancel();
  }
}

/** Node 1 with endpoint CLIENT, and SERVER where a test starts one there. */
async function withSockets(
  use: (cluster: Cluster, proxy: Proxy, cgroups: { client: string; server: string }) => Promise<void>,
  sizes: Record<string, number> = {},
): Promise<void> {
  await withProxy(abi.CONFIG_TUNNEL | BOTH_FAMILIES, async (cluster, proxy) => {
    const [node] = cluster.nodes, links: BpfLink[] = [];
    const cgroups = { client: newCgroup("client"), server: newCgroup("server") };
    try {
      for (
        const [id, identity, path] of [
          [CLIENT, CLIENT_IDENTITY, cgroups.client],
          [SERVER, SERVER_IDENTITY, cgroups.server],
        ] as const
      ) {
        const cgroupId = BigInt(Deno.statSync(path).ino!);
        node.addEndpoint({ id, identity, ifindex: 0, flags: abi.ENDPOINT_CGROUP, cgroupId });
        links.push(attachCgroup(node.program("cgroup_egress").fd, path, AttachType.CGROUP_INET_EGRESS));
        links.push(attachCgroup(node.program("cgroup_ingress").fd, path, AttachType.CGROUP_INET_INGRESS));
      }
      await use(cluster, proxy, cgroups);
    } finally {
      for (const link of links) link.close();
      for (const path of Object.values(cgroups)) {
        for (const pid of Deno.readTextFileSync(`${path}/cgroup.procs`).split("\n").filter(Boolean)) {
          Deno.kill(Number(pid), "SIGKILL");
        }
        await until(`${path} is empty`, () => {
          try {
            Deno.removeSync(path);
            return true;
          } catch {
            return false;
          }
        });
      }
    }
  }, sizes);
}

/** A server in the server's control group. */
async function serveThere(cluster: Cluster, cgroup: string): Promise<Deno.ChildProcess> {
  const script = new URL("testdata/peer_server.py", import.meta.url).pathname;
  const [command, ...args] = inCgroup(cgroup, [
    ...["ip", "netns", "exec", cluster.netns("node1"), "python3", "-u", script, `${PORT}`],
  ]);
  const server = new Deno.Command(command, { args, stdout: "piped" }).spawn();
  const reader = server.stdout.getReader();
  await reader.read();
  reader.releaseLock();
  return server;
}

kernelTest(
  "redirect: sockets of a cgroup reach servers here, far away, of services and of the world by way of the proxy",
  () =>
    withSockets(async (cluster, proxy, { client }) => {
      const [node] = cluster.nodes;
      for (const place of ["node1", "pod1", "pod2", "outside"] as const) await cluster.serve(place, PORT);
      node.changeEndpoint(CLIENT, { policy: EGRESS });
      setBackend(node, { id: 1, address: "10.0.1.10", port: PORT });
      setSelection(node, 1, [1]);
      setFrontend(node, { address: "10.96.0.9", port: 80, service: 10, internal: 1, external: 1 });
      const ways: [place: Place, to: string, own: string, port?: number, server?: string][] = [
        ["node1", "127.0.0.1", "127.0.0.1"],
        ["node1", "0.0.0.0", "127.0.0.1", PORT, "127.0.0.1"],
        ["node1", "192.0.2.1", "192.0.2.1"],
        ["node1", "::1", "::1"],
        ["node1", "2001:db8::1", "2001:db8::1"],
        ["pod1", "10.0.1.10", "192.0.2.1"],
        ["pod1", "fd00:1::10", "2001:db8::1"],
        ["pod1", "10.96.0.9", "192.0.2.1", 80, "10.0.1.10"],
        ["pod2", "10.0.2.10", "192.0.2.1"],
        ["pod2", "fd00:2::10", "2001:db8::1"],
        ["outside", WORLD[0], "192.0.2.1"],
        ["outside", WORLD[1], "2001:db8::1"],
      ];
      for (const [place, to, own, port = PORT, server = to] of ways) {
        node.drainEvents();
        await using asker = new Asker(cluster, client, to, port);
        const [, , bytes, ownAddress, ownPort, peer, peerPort] = await asker.ask();
        const events = node.drainEvents(), about = `${place} ${to}: ${cluster.drops()}`;
        assert.equal(bytes, "6", about);
        assert.equal(ownAddress, own, about);
        assert.deepEqual(
          [peer, peerPort],
          [to === "0.0.0.0" ? server : to, `${port}`],
          `${about}: getpeername()`,
        );
        const [handle, from, fromPort, onward, onwardPort] = (await proxy.line()).replaceAll("::ffff:", "")
          .split(" ");
        assert.match(handle, /^(240\.|fd57:4c37::)/, about);
        assert.deepEqual([from, fromPort, onward, onwardPort], [own, ownPort, server, `${PORT}`], about);
        const record = proxy.handles().find(({ key, clientHi }) =>
          (clientHi ? key.portHiBe : key.portLoBe) === Number(ownPort)
        )!;
        assert.deepEqual([record.client, record.redirect & 3], [
          { identity: CLIENT_IDENTITY, endpoint: CLIENT },
          abi.REDIRECT_EGRESS,
        ], about);
        if (server !== to && port === 80) assert.deepEqual([record.frontendPortBe, record.service], [80, 10]);
        // What is told of the flow names the server, not the handle.
        const told = events.filter(({ hookEndpoint, type }) =>
          hookEndpoint === CLIENT && (type === abi.EVENT_POLICY_VERDICT || type === abi.EVENT_TRACE)
        );
        const [verdict] = told.filter(({ type }) => type === abi.EVENT_POLICY_VERDICT);
        assert.equal(verdict?.proxyPort, PROXY_PORT, about);
        assert.deepEqual([verdict.egressCookie, verdict.sourceIdentity], [7, CLIENT_IDENTITY], about);
        const v6 = server.includes(":");
        const at = v6 ? 24 : 16, ports = v6 ? 42 : 22;
        for (const { payload, flags } of told) {
          const from = flags & abi.EVENT_INGRESS ? (v6 ? 8 : 12) : at;
          const handle = v6 ? [0xfd, 0x57] : [240];
          assert.notDeepEqual(
            [...payload.subarray(from, from + handle.length)],
            handle,
            `${about}: no handle's address`,
          );
        }
        assert.equal(verdict.payload[ports] << 8 | verdict.payload[ports + 1], PORT, about);
      }
      node.gc(abi.GC_ALL);
      await new Promise((done) => setTimeout(done, 1100));
      node.gc(abi.GC_ALL);
      assert.deepEqual(
        [proxy.handles().length, node.map("weir_upstreams").keys().length],
        [0, 0],
        "given back",
      );
    }),
);

/** A direct connection that has become the proxy's: the client ends it with a RST, and the server hears so. */
async function endsByReset(cluster: Cluster, cgroup: string): Promise<void> {
  const [node] = cluster.nodes, port = PORT + 1;
  const served = `
import socket, struct, sys
if sys.argv[1] == "server":
    s = socket.create_server(("127.0.0.1", ${port}))
    print("ready", flush=True)
    connection, _ = s.accept()
    connection.settimeout(20)
    try: print("silent" if connection.recv(9) else "closed", flush=True)
    except OSError as error: print("error", error.errno, flush=True)
else:
    s = socket.create_connection(("127.0.0.1", ${port}), 20)
    print("ready", flush=True)
    sys.stdin.readline()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    s.close()
`;
  const words = ["ip", "netns", "exec", cluster.netns("node1"), "python3", "-uc", served];
  const start = ([command, ...args]: string[]) => {
    const process = new Deno.Command(command, { args, stdin: "piped", stdout: "piped" }).spawn();
    const reader = process.stdout.pipeThrough(new TextDecoderStream()).getReader();
    let read = "";
    const line = async () => {
      while (!read.includes("\n")) read += (await reader.read()).value ?? "\n";
      const end = read.indexOf("\n"), text = read.slice(0, end);
      read = read.slice(end + 1);
      return text;
    };
    return { process, line, reader };
  };
  node.changeEndpoint(CLIENT, { policy: 0 });
  const server = start([...words, "server"]);
  assert.equal(await server.line(), "ready");
  const client = start(inCgroup(cgroup, [...words, "client"]));
  assert.equal(await client.line(), "ready");
  node.setPolicy(12, {
    enforceEgress: true,
    rules: [{ direction: "egress", protocol: TCP, port, redirect: true, cookie: 7 }],
  });
  node.changeEndpoint(CLIENT, { policy: 12 });
  await client.process.stdin.close();
  assert.equal(await server.line(), "error 104");
  for (const { process, reader } of [server, client]) {
    await process.status;
    await reader.cancel();
  }
  await server.process.stdin.close();
  node.changeEndpoint(CLIENT, { policy: EGRESS });
}

kernelTest(
  "redirect: sockets of a cgroup obey what policy says later, and hear at once that the proxy is away",
  () =>
    withSockets(async (cluster, proxy, { client }) => {
      const [node] = cluster.nodes;
      await cluster.serve("node1", PORT);
      await cluster.serve("outside", PORT);
      for (const to of ["127.0.0.1", WORLD[0], "::1", WORLD[1]]) {
        node.changeEndpoint(CLIENT, { policy: EGRESS });
        await using judged = new Asker(cluster, client, to, PORT, 2);
        assert.equal((await judged.ask())[2], "6", `${to} ${cluster.drops()}`);
        await proxy.line();
        node.changeEndpoint(CLIENT, { policy: PLAIN });
        assert.equal((await judged.ask())[2], "12", `${to}: goes on by the proxy`);
        node.changeEndpoint(CLIENT, { policy: DENIED });
        const denied = node.counted(abi.DROP_POLICY);
        assert.equal((await judged.ask())[0], "error", to);
        assert.ok(node.counted(abi.DROP_POLICY) > denied, to);
        // Direct without such rules.
        node.changeEndpoint(CLIENT, { policy: PLAIN });
        await using direct = new Asker(cluster, client, to, PORT, 2);
        assert.equal((await direct.ask())[2], "6", to);
        // One that was direct when the rules came ends.
        node.changeEndpoint(CLIENT, { policy: EGRESS });
        const before = node.counted(abi.DROP_DIRECT_CONNECTION);
        assert.equal((await direct.ask())[0], "error", to);
        assert.ok(node.counted(abi.DROP_DIRECT_CONNECTION) > before, to);
        // Its end by a RST is heard: of the one that hangs, whoever closes it.
        if (to === "127.0.0.1") await endsByReset(cluster, client);
        // Nobody there takes a handle for himself.
        const number = proxy.handles().at(-1)!.number;
        await using thief = new Asker(cluster, client, `240.0.0.${number & 255}`, PROXY_PORT);
        assert.equal((await thief.ask())[1], "13");
      }
      await proxy.kill();
      const away = node.counted(abi.DROP_PROXY_AWAY);
      {
        await using asker = new Asker(cluster, client, WORLD[0]);
        assert.equal((await asker.ask())[1], "111");
        assert.equal(node.counted(abi.DROP_PROXY_AWAY), away + 1);
      }
      node.writeConfig({ proxyPort: 0 });
      const none = node.counted(abi.DROP_PROXY_LOOKUP_FAILED);
      await using asker = new Asker(cluster, client, WORLD[0]);
      assert.equal((await asker.ask())[1], "111");
      assert.equal(node.counted(abi.DROP_PROXY_LOOKUP_FAILED), none + 1);
    }),
);

kernelTest(
  "redirect: what the proxy asks for a cgroup's socket is that endpoint's to another cgroup, whose policy is asked",
  () =>
    withSockets(async (cluster, proxy, { client, server }) => {
      const [node] = cluster.nodes;
      const process = await serveThere(cluster, server);
      node.changeEndpoint(CLIENT, { policy: EGRESS });
      for (const to of ["127.0.0.1", "::1", "192.0.2.1"]) {
        for (const [slot, identity, allowed] of [[10, CLIENT_IDENTITY, true], [11, 3999, false]] as const) {
          node.setPolicy(slot, {
            enforceIngress: true,
            rules: [{ direction: "ingress", identity, protocol: TCP, port: PORT }],
          });
          node.changeEndpoint(SERVER, { policy: slot });
          await using asker = new Asker(cluster, client, to, PORT, allowed ? 20 : 2);
          const [first, , bytes] = await asker.ask();
          if (allowed) {
            assert.equal(bytes, "6", cluster.drops());
            await proxy.line();
          } else assert.equal(first, "error", `${to}: the server's policy knows who asks`);
        }
      }
      process.kill("SIGKILL");
      await process.status;
      await process.stdout.cancel();
    }),
);

kernelTest(
  "redirect: a cgroup's sockets have their share of handles, and hear at once that there is none",
  () =>
    withSockets(async (cluster, proxy, { client }) => {
      const [node] = cluster.nodes;
      await cluster.serve("node1", PORT);
      node.changeEndpoint(CLIENT, { policy: EGRESS });
      let ok = 0;
      for (; ok < 32; ok++) {
        await using asker = new Asker(cluster, client, "127.0.0.1");
        const [first, errno] = await asker.ask();
        if (first !== "error") continue;
        assert.equal(errno, "111");
        break;
      }
      assert.equal(ok, 20, "as of an endpoint with a device");
      assert.equal(node.counted(abi.DROP_HANDLE_SHARE), 1);
      assert.ok(proxy.handles().length >= 20);
    }, { weir_handles: 32 }),
);
