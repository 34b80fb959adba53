/** Who had a port of the proxy's before the programs keep it: nothing is sent there. */
import assert from "node:assert/strict";
import { BpfMap, openPin } from "@weir/loader";
import { Config } from "@weir/maps";
import { nodeTest, type TestNode } from "../testing.ts";

/** Takes a port as a user until its input ends; says "ready", or an errno and ends. */
const TAKE = `import os, socket, sys
uid, kind, host, port = int(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])
os.setuid(uid)
s = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, getattr(socket, "SOCK_" + kind))
try:
    s.bind((host, port))
    if kind == "STREAM": s.listen(1)
    print("ready", flush=True)
    sys.stdin.read()
except OSError as error:
    print(error.errno, flush=True)
`;

async function take(
  node: TestNode,
  ...[uid, kind, host, port]: [uid: number, kind: string, host: string, port: number]
): Promise<{ said: string } & AsyncDisposable> {
  const process = new Deno.Command("nsenter", {
    args: [`--net=/run/netns/${node.netns}`, "python3", "-c", TAKE, `${uid}`, kind, host, `${port}`],
    stdin: "piped",
    stdout: "piped",
  }).spawn();
  const reader = process.stdout.getReader();
  const { value } = await reader.read();
  return {
    said: new TextDecoder().decode(value).trim(),
    async [Symbol.asyncDispose]() {
      await process.stdin.close();
      await process.status;
      await reader.cancel();
    },
  };
}

nodeTest("What is for the proxy is sent nowhere while another process has its port", async (node) => {
  const proxyPort = () => {
    using map = new BpfMap(openPin(`/sys/fs/bpf/weir/${node.instance}/maps/weir_config`)!, "weir_config");
    return Config.decode(map.lookup(new Uint8Array(4))!).proxyPort;
  };
  const put = () =>
    node.configure({ proxy: { uid: 999, sockets: 2, prefixV4: "240.0.0.0/8", prefixV6: "fd57:4c37::/64" } });
  const errors = async () =>
    ((await node.request("GET", "/v1/status") as { errors?: { kind: string; error: string }[] }).errors ?? [])
      .filter(({ kind }) => kind === "proxy node").map(({ error }) => error);
  const strangers = [[0, "STREAM", "::", 15001], [1000, "STREAM", "127.0.0.1", 15001], [
    1000,
    "DGRAM",
    "::",
    15002,
  ]] as const;
  for (const [uid, kind, host, port] of strangers) {
    {
      await using stranger = await take(node, uid, kind, host, port);
      assert.equal(stranger.said, "ready");
      await put();
      assert.match((await errors())[0] ?? "", new RegExp(`another process has its port, (TCP|UDP) ${port}`));
      assert.equal(proxyPort(), 0, "nothing is sent there");
    }
    await node.request("POST", "/v1/sync", {});
    assert.deepEqual([await errors(), proxyPort()], [[], 15001], "it has ended");
    {
      await using late = await take(node, uid, kind, host, port);
      assert.equal(late.said, "13", "EACCES");
    }
    await node.configure();
  }
  for (const [kind, port] of [["STREAM", 15001], ["DGRAM", 15002]] as const) {
    await using proxy = await take(node, 999, kind, "::", port);
    assert.equal(proxy.said, "ready");
    await put();
    await node.request("POST", "/v1/sync", {});
    assert.deepEqual([await errors(), proxyPort()], [[], 15001], "the proxy's own");
  }
});
