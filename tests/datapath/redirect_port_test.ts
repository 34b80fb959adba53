/** Whose the proxy's ports are: real processes bind them, while the proxy is there and while it is not. */
import assert from "node:assert/strict";
import * as abi from "@weir/maps";
import { readSysctl } from "@weir/net";
import { inCgroup } from "../../services/agent/proxy_cgroup.ts";
import { newCgroup } from "./own_cgroup.ts";
import type { Place } from "./cluster.ts";
import { kernelTest } from "./kernel_test_case.ts";
import { PROXY_PORT } from "./proxy.ts";
import { EGRESS, passes, PORT, withProxy } from "./redirect_bed.ts";

/** Binds each address and port, the way it says, and prints how that ended: "ok", or an errno. */
const BIND = `
import socket, sys
for word in sys.argv[1:]:
    kind, host, port, option = word.split(",")
    s = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM,
        262 if kind == "mptcp" else 0)
    if option:
        s.setsockopt(socket.SOL_SOCKET, getattr(socket, option), 1)
    try:
        s.bind((host, int(port)))
        if kind != "udp":
            s.listen(1)
        print("ok")
    except OSError as error:
        print(error.errno)
    s.close()
`;
const EACCES = "13";
const HOSTS = ["::", "0.0.0.0", "::1", "127.0.0.1", "::ffff:127.0.0.1"];
const HAS_MPTCP = readSysctl("mptcp/enabled") === "1";
const OPTIONS = ["", "SO_REUSEADDR", "SO_REUSEPORT"];

async function bind(words: string[], asked: string[]): Promise<string[]> {
  const [command, ...args] = [...words, "env", "PATH=/usr/bin:/bin", "python3", "-c", BIND, ...asked];
  const { stdout, stderr } = await new Deno.Command(command, { args }).output();
  const text = new TextDecoder();
  return text.decode(stdout).trim().split("\n").concat(text.decode(stderr).trim()).filter((line) =>
    line !== ""
  );
}

kernelTest(
  "redirect: a port of the proxy's is nobody else's to bind, whether the proxy is there or not",
  () =>
    withProxy(abi.CONFIG_TUNNEL, async (cluster, proxy) => {
      const [node] = cluster.nodes;
      const enter = (place: Place) => ["ip", "netns", "exec", cluster.netns(place)];
      const asked = (kind: string, port: number, options = OPTIONS) =>
        HOSTS.flatMap((host) => options.map((option) => `${kind},${host},${port},${option}`));
      const all = async (words: string[], what: string[], expected: string, about: string) =>
        assert.deepEqual(await bind(words, what), what.map(() => expected), about);
      const kinds = ["tcp", "udp", ...HAS_MPTCP ? ["mptcp"] : []],
        strangers: [who: string, words: string[]][] = [
          ["root", enter("node1")],
          ["another of the proxy's user", proxy.as(false)],
        ];
      for (const there of [true, false]) {
        if (!there) await proxy.kill();
        for (const [who, words] of strangers) {
          const before = node.counted(abi.DROP_HANDLE_ADDRESS),
            what = kinds.flatMap((kind) => asked(kind, PROXY_PORT));
          await all(words, what, EACCES, `${who}, proxy ${there ? "there" : "away"}`);
          assert.equal(node.counted(abi.DROP_HANDLE_ADDRESS) - before, what.length, "counted");
          const next = kinds.flatMap((
            kind,
          ) => [...asked(kind, PROXY_PORT + 1, [""]), ...asked(kind, 0, [""])]);
          await all(words, [...next, ...asked("tcp", PROXY_PORT - 1, [""])], "ok", `${who}: other ports`);
        }
        for (const place of ["pod1", "node2"] as const) {
          await all(
            enter(place),
            kinds.flatMap((kind) => asked(kind, PROXY_PORT, [""])),
            "ok",
            `${place}'s are its own`,
          );
        }
      }
      await all(
        proxy.as(true),
        ["tcp", "udp"].flatMap((kind) => asked(kind, PROXY_PORT)),
        "ok",
        "the proxy's own",
      );
      // Its user in another group.
      const other = newCgroup("other");
      try {
        await all(inCgroup(other, proxy.as(false)), asked("tcp", PROXY_PORT), EACCES, "another group");
      } finally {
        Deno.removeSync(other);
      }
      // As many sockets of datagrams as it has; connections come to one port.
      node.writeConfig({ proxySockets: 3 });
      const [, root] = strangers[0];
      for (const [at, udp] of [[1, EACCES], [2, EACCES], [3, "ok"]] as const) {
        await all(root, asked("udp", PROXY_PORT + at), udp, `UDP ${PROXY_PORT + at}`);
        await all(root, asked("tcp", PROXY_PORT + at), "ok", `TCP ${PROXY_PORT + at}`);
      }
      node.writeConfig({ proxySockets: 1, proxyPort: 0 });
      await all(root, kinds.flatMap((kind) => asked(kind, PROXY_PORT)), "ok", "there is no proxy");
      node.writeConfig({ proxyPort: PROXY_PORT });
      // None of that keeps the proxy from coming back.
      await proxy.start();
      await cluster.serve("pod3", PORT);
      node.changeEndpoint(1, { policy: EGRESS });
      await passes(cluster, proxy, { from: "pod1", to: "10.0.1.11", peer: "10.0.1.10", onward: "10.0.1.11" });
    }),
);
