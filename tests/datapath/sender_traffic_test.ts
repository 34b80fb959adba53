/**
 * Machines and processes that speak VXLAN to a node and are none: outside, on the node, on another node, in a pod. What a pod
 * hears is what its socket gets.
 */
import assert from "node:assert/strict";
import { until } from "@weir/common/testing/until";
import * as abi from "@weir/maps";
import { Cluster, must, OUTSIDE, type Place } from "./cluster.ts";
import { kernelTest } from "./kernel_test_case.ts";
import { address, UDP } from "./packet.ts";
import { setBackend, setFrontend, setSelection } from "./services.ts";

const script = (name: string) => new URL(`testdata/${name}`, import.meta.url).pathname;

/** Two nodes with a tunnel; `heard` says what pod 1's sockets at port 9999 got so far. */
const LAST = "::ffff:127.0.0.1 0\n";
async function tunnel(use: (made: Cluster, heard: () => Promise<string>) => Promise<void>): Promise<void> {
  const made = await Cluster.open(abi.CONFIG_TUNNEL);
  const command = new Deno.Command("ip", {
    args: ["netns", "exec", made.netns("pod1"), "python3", script("udp_count.py"), "9999"],
    stdout: "piped",
  });
  const listener = command.spawn();
  let text = "";
  const reading = (async () => {
    for await (const part of listener.stdout.pipeThrough(new TextDecoderStream())) text += part;
  })();
  try {
    while (!text.includes("ready\n")) await new Promise((done) => setTimeout(done, 20));
    text = "";
    await use(made, async () => {
      // What came before this has been printed when this is.
      const last =
        `import socket;socket.socket(socket.AF_INET,socket.SOCK_DGRAM).sendto(b'',('127.0.0.1',9999))`;
      assert.equal((await made.in("pod1", "python3", "-c", last)).code, 0);
      await until("the last is printed", () => text.includes(LAST), 20);
      const got = text.replace(LAST, "");
      text = "";
      return got;
    });
  } finally {
    listener.kill("SIGKILL");
    await listener.status;
    await reading;
    await made.close();
  }
}
async function send(made: Cluster, place: Place, ...args: string[]): Promise<string> {
  const { code, text } = await made.in(place, "python3", script("vxlan_send.py"), ...args);
  return code === 0 ? "" : text;
}
function drops(made: Cluster, n: number): abi.Event[] {
  return made.nodes[n - 1].drainEvents().filter((event) => event.type === abi.EVENT_DROP);
}
const INNER = ["1002", "10.0.2.10", "10.0.1.10", "9999"];

kernelTest(
  "tunnel: what node 2 says reaches pod 1, what anybody else says in its place does not",
  () =>
    tunnel(async (made, heard) => {
      for (const family of [0, 1]) {
        const pod = ["10.0.1.10", "fd00:1::10"][family], far = ["10.0.2.10", "fd00:2::10"][family];
        const real = `import socket;socket.socket(socket.AF_INET${
          family ? "6" : ""
        },socket.SOCK_DGRAM).sendto(b'x'*5,('${pod}',9999))`;
        assert.equal((await made.in("pod2", "python3", "-c", real)).code, 0);
        assert.match(await heard(), new RegExp(` 5\n`), "the tunnel works");
        // an outside machine, with every identity, in fragments too
        for (const vni of ["1002", "6", "2", "1"]) {
          for (const more of [[], ["fragments"]]) {
            assert.equal(
              await send(made, "outside", "raw", OUTSIDE[0], "192.0.2.1", vni, far, pod, "9999", ...more),
              "",
            );
            assert.equal(await heard(), "", `${vni} from outside`);
            const [event] = drops(made, 1);
            assert.equal(event.subtype, abi.DROP_TUNNEL_SENDER);
            assert.deepEqual(event.payload.subarray(26, 30), address(OUTSIDE[0]).subarray(12));
          }
        }
        assert.equal(await send(made, "outside", "udp", "-", "2001:db8::1", "1002", far, pod, "9999"), "");
        assert.equal(await heard(), "");
        assert.equal(drops(made, 1)[0].subtype, abi.DROP_TUNNEL_SENDER);
        // with node 2's address, which nobody can tell from node 2: what it says of whom must fit all the same
        const own = ["10.0.1.1", "fd00:1::1"][family], nobody = ["10.0.2.77", "fd00:2::77"][family];
        for (
          const [vni, source, reason] of [
            ["1001", far, abi.DROP_INVALID_IDENTITY],
            ["6", far, abi.DROP_INVALID_IDENTITY],
            ["1002", nobody, abi.DROP_TUNNEL_SOURCE],
            ["1001", pod, abi.DROP_INVALID_SIP],
            ["6", own, abi.DROP_INVALID_SIP],
          ] as const
        ) {
          assert.equal(
            await send(made, "outside", "raw", "192.0.2.2", "192.0.2.1", vni, source, pod, "9999"),
            "",
          );
          assert.equal(await heard(), "", `${vni} ${source}`);
          const [event] = drops(made, 1);
          assert.equal(event.subtype, reason, `${vni} ${source}`);
          assert.deepEqual(event.payload.subarray(abi.EVENT_OUTER_OFFSET), address("192.0.2.2"));
        }
      }
    }),
);

kernelTest("tunnel over IPv6: the same", () =>
  tunnel(async (made, heard) => {
    for (const [i, node] of made.nodes.entries()) {
      const other = 2 - i, underlay = `2001:db8::${other}`;
      for (const own of [`192.0.2.${other}`, underlay, `10.0.${other}.1`, `fd00:${other}::1`]) {
        node.setIpcache(own, 6, underlay);
      }
      for (const pod of [`10.0.${other}.10`, `fd00:${other}::10`]) {
        node.setIpcache(pod, 1000 + other, underlay);
      }
    }
    for (const [source, target] of [["10.0.2.10", "10.0.1.10"], ["fd00:2::10", "fd00:1::10"]]) {
      const family = source.includes(":") ? "AF_INET6" : "AF_INET";
      const real =
        `import socket;socket.socket(socket.${family},socket.SOCK_DGRAM).sendto(b'x'*1300,('${target}',9999))`;
      assert.equal((await made.in("pod2", "python3", "-c", real)).code, 0);
      assert.match(await heard(), / 1300\n/, `the tunnel works: ${made.drops()}`);
      assert.equal(
        await send(made, "outside", "udp", "-", "2001:db8::1", "1002", source, target, "9999"),
        "",
      );
      assert.equal(await heard(), "");
      assert.equal(drops(made, 1)[0].subtype, abi.DROP_TUNNEL_SENDER);
      assert.equal(await send(made, "node2", "udp", "-", "2001:db8::1", "1002", source, target, "9999"), "");
      assert.deepEqual(drops(made, 2).map((event) => event.subtype), [abi.DROP_ENCAP_PROHIBITED]);
      // by IPv4 it is not where node 2 is looked for
      const known = ["raw", "192.0.2.2", "192.0.2.1", "1002", source, target, "9999"];
      assert.equal(await send(made, "outside", ...known), "");
      assert.equal(await heard(), "");
      assert.equal(drops(made, 1)[0].subtype, abi.DROP_TUNNEL_SENDER);
    }
  }));

kernelTest(
  "tunnel: processes of a node cannot send to its port, here or to another node",
  () =>
    tunnel(async (made, heard) => {
      const mac = async (place: Place, device: string) =>
        (await must("ip", "netns", "exec", made.netns(place), "cat", `/sys/class/net/${device}/address`))
          .trim();
      const outer1 = await mac("node1", "outer");
      const marks = [
        0,
        abi.MARK_OVERLAY,
        abi.MARK_TRANSLATED,
        abi.MARK_DELIVERED,
        abi.MARK_FRAGMENT,
        abi.MARK_TUNNEL,
      ].map((
        mark,
      ) => `mark=${mark}`);
      // node 2 to node 1, by its own address that node 1 believes: sockets, raw sockets, packet sockets, fragments
      const ways: string[][] = [["udp", "-"], ["raw", "192.0.2.2"], [`frame/outer/${outer1}`, "192.0.2.2"]];
      for (const [how, from] of ways) {
        for (
          const more of how === "raw" ? [...marks, "fragments"] : how === "udp" ? marks : ["", "fragments"]
        ) {
          assert.equal(
            await send(made, "node2", how, from, "192.0.2.1", ...INNER, more),
            "",
            `${how} ${more}`,
          );
          assert.equal(await heard(), "", `${how} ${more}`);
          const left = drops(made, 2);
          assert.deepEqual(left.map((event) => event.subtype), [abi.DROP_ENCAP_PROHIBITED], `${how} ${more}`);
          assert.equal(left[0].sourceIdentity, abi.IDENTITY_HOST);
        }
      }
      assert.equal(await send(made, "node2", "udp", "-", "2001:db8::1", ...INNER), "");
      assert.equal(await heard(), "");
      assert.deepEqual(drops(made, 2).map((event) => event.subtype), [abi.DROP_ENCAP_PROHIBITED]);
      // to its own node, by loopback, as anybody
      for (
        const [how, from, to] of [
          ["udp", "-", "127.0.0.1"],
          ["udp", "-", "192.0.2.1"],
          ["udp", "-", "::1"],
          ["raw", "192.0.2.2", "192.0.2.1"],
          ["raw", "192.0.2.2", "127.0.0.1"],
        ]
      ) {
        for (const more of how === "raw" ? [...marks, "fragments"] : marks) {
          await send(made, "node1", how, from, to, ...INNER, more);
          assert.equal(await heard(), "", `${how} ${to} ${more}`);
          // Node 2's fragments may have come late, and been dropped as such.
          const event = drops(made, 1).find(({ subtype }) => subtype === abi.DROP_TUNNEL_DEVICE) ??
            assert.fail(`${how} ${to} ${more}`);
          if (from !== "-") assert.deepEqual(event.payload.subarray(abi.EVENT_OUTER_OFFSET), address(from));
        }
      }
      // by a packet that a node takes out of the tunnel, and finds another one in
      const nested =
        `import socket;socket.socket(socket.AF_INET,socket.SOCK_DGRAM).sendto(bytes(100),('10.0.1.1',8472))`;
      await made.in("node2", "python3", "-c", nested);
      await made.in("pod2", "python3", "-c", nested);
      assert.deepEqual(drops(made, 2).map((event) => event.subtype), [
        abi.DROP_ENCAP_PROHIBITED,
        abi.DROP_ENCAP_PROHIBITED,
      ]);
    }),
);

kernelTest(
  "tunnel: another machine of the node's (a container that is no endpoint) cannot wear a pod",
  () =>
    tunnel(async (made, heard) => {
      // as a bridge of a container engine: a device that is neither an endpoint's nor outer
      const host = made.netns("node1"), box = made.netns("pod2");
      await made.ip("node1", "link", "add", "box", "type", "veth", "peer", "name", "eth1", "netns", box);
      for (const [place, own] of [["node1", "172.30.0.1"], ["pod2", "172.30.0.2"]] as const) {
        const device = place === "node1" ? "box" : "eth1";
        await made.ip(place, "address", "add", `${own}/24`, "dev", device);
        await made.ip(place, "link", "set", device, "up");
      }
      await made.in("node1", "sysctl", "-qw", "net.ipv4.conf.box.rp_filter=0");
      const box1 = (await must("ip", "netns", "exec", host, "cat", "/sys/class/net/box/address")).trim();
      assert.equal(await send(made, "pod2", `frame/eth1/${box1}`, "192.0.2.2", "192.0.2.1", ...INNER), "");
      assert.equal(await heard(), "");
      assert.deepEqual(drops(made, 1).map((event) => event.subtype), [abi.DROP_TUNNEL_DEVICE]);
      // to another node's port, passed on by this one
      assert.equal(await send(made, "pod2", `frame/eth1/${box1}`, "192.0.2.1", "192.0.2.2", ...INNER), "");
      const left = drops(made, 1);
      assert.ok(
        left.length === 0 || left[0].subtype === abi.DROP_ENCAP_PROHIBITED,
        "the kernel or to_netdev refuses it",
      );
      assert.equal(await send(made, "pod2", `frame/eth1/${box1}`, "172.30.0.2", "192.0.2.2", ...INNER), "");
      assert.deepEqual(drops(made, 1).map((event) => event.subtype), [abi.DROP_ENCAP_PROHIBITED]);
      assert.deepEqual(drops(made, 2), []);
      // nor when its packets carry what from_netdev and to_overlay note: a namespace's classes reach the next one
      await must("ip", "netns", "exec", box, "tc", "qdisc", "add", "dev", "eth1", "clsact");
      for (
        const [origin, from, to, reason] of [
          [abi.ORIGIN_NODE, "192.0.2.2", "192.0.2.1", abi.DROP_TUNNEL_DEVICE],
          [abi.ORIGIN_OVERLAY, "172.30.0.2", "192.0.2.2", abi.DROP_ENCAP_PROHIBITED],
        ] as const
      ) {
        const filter = `dev eth1 egress protocol all pref 1 u32`;
        const tc = (words: string) => must("ip", "netns", "exec", box, "tc", ...words.split(" "));
        await tc(`filter add ${filter} match u32 0 0 classid 1:${origin.toString(16)}`);
        for (const mark of [0, abi.MARK_TUNNEL]) {
          assert.equal(
            await send(made, "pod2", `frame/eth1/${box1}`, from, to, ...INNER, `mark=${mark}`),
            "",
          );
          assert.equal(await heard(), "");
          assert.deepEqual(drops(made, 1).map((event) => event.subtype), [reason], `${origin} ${mark}`);
          assert.deepEqual(drops(made, 2), []);
        }
        await tc(`filter del ${filter}`);
      }
      // a pod's address by way of the stack: to this node's pod, and into the tunnel
      const forge = (source: string, target: string) =>
        made.in(
          "pod2",
          "python3",
          "-c",
          `import sys;sys.argv=['x','frame/eth1/${box1}','192.0.2.9','192.0.2.1','1','${source}','${target}','9999']
code=open('${script("vxlan_send.py")}').read().replace('for packet in outer():','for packet in [inner]:')
exec(code)`,
        );
      assert.equal((await forge("10.0.2.10", "10.0.1.10")).text, "");
      assert.equal(await heard(), "");
      assert.deepEqual(drops(made, 1).map((event) => event.subtype), [abi.DROP_INVALID_IDENTITY]);
      assert.equal((await forge("10.0.1.10", "10.0.2.10")).text, "");
      assert.deepEqual(drops(made, 1).map((event) => event.subtype), [abi.DROP_INVALID_SIP]);
      assert.equal((await forge("172.30.0.2", "10.0.1.10")).text, "");
      assert.match(await heard(), /172\.30\.0\.2 6\n/, "in its own name it may ask");
    }),
);

kernelTest(
  "tunnel: a service leads nobody to the port, and answers to it are not sent",
  () =>
    tunnel(async (made, heard) => {
      const [node] = made.nodes;
      for (const [id, to] of [[1, "192.0.2.2"], [2, "192.0.2.1"]] as const) {
        setBackend(node, { id, address: to, port: 8472, protocol: UDP });
        setSelection(node, id, [id]);
        const slots = {
          internal: id,
          external: id,
          protocol: UDP,
          flags: abi.FRONTEND_EXTERNAL,
          service: id,
        };
        setFrontend(node, { address: "0.0.0.0", port: 30000 + id, ...slots });
        setFrontend(node, { address: "10.96.0.1", port: id, ...slots });
      }
      const ask = (place: Place, host: string, port: number) =>
        made.in(
          place,
          "python3",
          "-c",
          `import socket;socket.socket(socket.AF_INET,socket.SOCK_DGRAM).sendto(bytes(100),('${host}',${port}))`,
        );
      for (const id of [1, 2]) {
        for (
          const [place, host, port] of [["outside", "192.0.2.1", 30000 + id], [
            "pod1",
            "192.0.2.1",
            30000 + id,
          ], ["pod1", "10.96.0.1", id]] as const
        ) {
          await ask(place, host, port);
          await heard();
          assert.deepEqual(
            drops(made, 1).map((event) => event.subtype),
            [abi.DROP_ENCAP_PROHIBITED],
            `${place} ${host}:${port}`,
          );
        }
      }
      await ask("pod1", "192.0.2.2", 8472);
      assert.deepEqual(drops(made, 1).map((event) => event.subtype), [abi.DROP_ENCAP_PROHIBITED]);
      assert.deepEqual(drops(made, 2), []);
    }),
);
