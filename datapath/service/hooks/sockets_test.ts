import assert from "node:assert/strict";
import { AttachType } from "@weir/loader";
import { openPinnedLink } from "../kernel/kernel.ts";
import { Pins } from "../kernel/pins.ts";
import { cgroupRoot } from "@weir/common";
import { cgroupRootIn } from "../kernel/cgroup.ts";
import { TestNode } from "../testing.ts";

const skipped = TestNode.skipped() ??
  (cgroupRoot(Deno.readTextFileSync("/proc/self/mountinfo")) === undefined
    ? "no cgroup2 mounted"
    : undefined);
if (skipped !== undefined) console.log(`SKIP socket hooks: ${skipped}`);

Deno.test("cgroupRootIn() finds the unified hierarchy of a mounted directory, beside version 1 too", async () => {
  const directory = await Deno.makeTempDir();
  try {
    assert.throws(() => cgroupRootIn(directory), { code: "CGROUP_NOT_FOUND" });
    await Deno.mkdir(`${directory}/unified`);
    await Deno.writeTextFile(`${directory}/unified/cgroup.controllers`, "");
    assert.equal(cgroupRootIn(directory), `${directory}/unified`);
    await Deno.writeTextFile(`${directory}/cgroup.controllers`, "");
    assert.equal(cgroupRootIn(directory), directory);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
});

Deno.test("cgroupRoot() takes the whole hierarchy before a part of it, and reads escapes", () => {
  const line = (root: string, path: string, type: string) =>
    `30 23 0:26 ${root} ${path} rw,nosuid - ${type} cgroup rw\n`;
  assert.equal(cgroupRoot(line("/", "/sys/fs/cgroup/cpu", "cgroup")), undefined);
  assert.equal(
    cgroupRoot(line("/a", "/part", "cgroup2") + line("/", "/whole\\040one", "cgroup2")),
    "/whole one",
  );
  const covered = line("/", "/sys/fs/cgroup/unified", "cgroup2");
  assert.equal(cgroupRoot(covered), "/sys/fs/cgroup/unified");
  assert.equal(
    cgroupRoot(covered + line("/", "/sys", "sysfs") + line("/", "/sys/fs/cgroup", "cgroup2")),
    "/sys/fs/cgroup",
    "what is mounted over is out of reach",
  );
});

/** Connects from the node's namespace: what it read and whom it believes to talk to. */
const CONNECT = `import socket,threading
server=socket.socket(); server.setsockopt(socket.SOL_SOCKET,socket.SO_REUSEADDR,1); server.bind(('192.0.2.1',8080)); server.listen(4)
def serve():
    while True:
        c,_=server.accept(); c.sendall(b'hello'); c.close()
threading.Thread(target=serve,daemon=True).start()
s=socket.socket(); s.settimeout(30)
try:
    s.connect(('10.96.0.10',80)); print(s.recv(9).decode(),*s.getpeername())
except OSError as e:
    print(e.errno)
`;

/** Connects a UDP socket, says which backend answers, then how its connection ended and which backend is next. */
const CONNECT_UDP = `import socket,threading
for port in (8081,8082):
    server=socket.socket(socket.AF_INET,socket.SOCK_DGRAM); server.bind(('192.0.2.1',port))
    def serve(server=server,port=port):
        while True:
            _,a=server.recvfrom(9); server.sendto(str(port).encode(),a)
    threading.Thread(target=serve,daemon=True).start()
s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM); s.settimeout(120)
def ask():
    s.connect(('10.96.0.11',53)); s.send(b'x'); print(s.recv(9).decode(),*s.getpeername(),flush=True)
ask()
try:
    s.recv(9)
except OSError as e:
    print(e.errno,flush=True)
ask()
`;

const service = (id: number, address: string, port: number, protocol: string) => ({
  id,
  name: `default/${address}`,
  protocol,
  frontends: [{ address, port, closed: true }],
  algorithm: "RANDOM",
});
const backend = (service: number, port: number) => ({
  service,
  address: "192.0.2.1",
  port,
  state: "ACTIVE",
  internal: true,
});

Deno.test({
  name:
    "SocketHooks.apply() hangs on the root of the cgroups, is taken over after a crash, and goes when not wanted",
  ignore: skipped !== undefined,
  fn: async () => {
    const node = await TestNode.create("sock");
    const pins = new Pins(node.instance);
    const connect = async () => (await node.exec("python3", "-c", CONNECT)).trim();
    const link = (program: string) => {
      using found = openPinnedLink(pins.rootLink(program));
      return found?.info;
    };
    const ENETUNREACH = "101";
    try {
      await node.start();
      await node.configure();
      const programs = (await node.request("GET", "/v1/programs")).items
        .filter((program: { name: string }) => program.name.startsWith("socket_"));
      assert.equal(programs.length, 11);
      for (const program of programs) assert.equal(program.tag, program.verifiedTag, program.name);
      assert.equal(link("socket_connect4")?.attachType, AttachType.CGROUP_INET4_CONNECT);
      assert.equal(link("socket_bind6")?.attachType, AttachType.CGROUP_INET6_BIND);
      const services = () =>
        node.request("POST", "/v1/services:update", {
          services: [service(1, "10.96.0.10", 80, "TCP")],
          backends: [backend(1, 8080)],
        });
      await services();
      assert.equal(await connect(), "hello 10.96.0.10 80");

      const before = link("socket_connect4")?.id;
      await node.stop("SIGKILL");
      assert.equal(await connect(), "hello 10.96.0.10 80");
      await node.start();
      await node.configure();
      await services();
      await node.request("POST", "/v1/sync", {});
      assert.equal(link("socket_connect4")?.id, before);
      assert.equal(await connect(), "hello 10.96.0.10 80");

      await node.configure({ socketLb: false });
      assert.equal(link("socket_connect4"), undefined);
      assert.equal(await connect(), ENETUNREACH);
      await node.configure({ socketLb: true });
      assert.equal(await connect(), "hello 10.96.0.10 80");
      assert.deepEqual((await node.request("GET", "/v1/status")).errors ?? [], []);

      await node.stop();
      assert.equal(await connect(), "hello 10.96.0.10 80");
      await node.uninstall();
      for (const program of ["socket_connect4", "socket_bind6"]) assert.equal(link(program), undefined);
      assert.equal(await connect(), ENETUNREACH);
    } finally {
      await node.close();
    }
  },
});

Deno.test({
  name: "SocketHooks.reap() tells a connected UDP socket that its backend is gone, so that it moves on",
  ignore: skipped !== undefined,
  fn: async () => {
    const node = await TestNode.create("udp");
    try {
      await node.start();
      await node.configure();
      await node.request("POST", "/v1/services:update", {
        services: [service(2, "10.96.0.11", 53, "UDP")],
        backends: [backend(2, 8081)],
      });
      const client = new Deno.Command("nsenter", {
        args: [`--net=/run/netns/${node.netns}`, "python3", "-uc", CONNECT_UDP],
        stdout: "piped",
      }).spawn();
      const reader = client.stdout.pipeThrough(new TextDecoderStream()).getReader();
      let text = "";
      const line = async () => {
        while (!text.includes("\n")) text += (await reader.read()).value ?? "(ended)\n";
        const end = text.indexOf("\n"), first = text.slice(0, end);
        text = text.slice(end + 1);
        return first;
      };
      assert.equal(await line(), "8081 10.96.0.11 53");
      await node.request("POST", "/v1/services:update", {
        backends: [backend(2, 8082)],
        deletedBackends: [backend(2, 8081)],
      });
      assert.equal(await line(), "103"); // ECONNABORTED: it does not wait for an answer that cannot come
      assert.equal(await line(), "8082 10.96.0.11 53");
      await client.status;
    } finally {
      await node.close();
    }
  },
});
