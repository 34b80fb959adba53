/**
 * Two servers become a cluster: init, join, endpoints on each, a policy, traffic across, a node that lies, tokens of people,
 * renewal, leave, remove. Each "server" has its own mounts (/run, /var/lib/weir, bpffs), network and host name, and is told
 * exactly what a person would type.
 * @module
 */
import assert from "node:assert/strict";
import { until } from "@weir/common/testing/until";
import { Machine, MachineNetwork } from "./machine.ts";
import { HUBBLE, isBuilt } from "../hubble/real_client.ts";
import { canRun } from "./weir.ts";

const LIFETIME_S = 120;

const certificate = (
  directory: string,
) => ["--cert", `${directory}/node.crt`, "--key", `${directory}/node.key`];
const OWN = certificate("/var/lib/weir/host"), READER = certificate("/var/lib/weir/host/reader");

const POLICY = `apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: { name: web }
spec:
  endpointSelector: { matchLabels: { app: web } }
  ingress: [{ fromEndpoints: [{ matchLabels: { app: client } }] }]
`;

Deno.test({
  name:
    "two servers, one cluster: init, join, traffic and policy across, a node that lies, renewal, leave, remove",
  ignore: !canRun,
  async fn(t) {
    const a = new Machine("server-a", "192.0.2.1"), b = new Machine("server-b", "192.0.2.2");
    // Each step stands on the one before.
    const step = async (name: string, run: () => Promise<void>) => assert.ok(await t.step(name, run), name);
    await using _network = await MachineNetwork.up(a, b);

    await step("init and join, one command each", async () => {
      await a.weir(["cluster", "init", "--listen", "192.0.2.1"]);
      await a.startAgent(
        "--certificate-lifetime-s",
        String(LIFETIME_S),
        "--hubble-relay-listen",
        "192.0.2.1",
      );
      const token = (await a.weir(["cluster", "token"])).trim();
      assert.match(token, /^weir-join\.[\w-]+$/);
      const wrong = tampered(token, (json) => json.h = "0".repeat(64));
      assert.match(await b.refused("join", wrong), /is not the cluster that made this token/);
      assert.match(
        await b.refused("join", tampered(token, (json) => json.a = ["192.0.2.9:7440"])),
        /Cannot reach/,
      );
      assert.match(
        await b.refused("join", tampered(token, (json) => json.s = "x.y")),
        /no such join token/,
      );
      assert.match(
        await b.refused("join", token, "--node-name", "server-a"),
        /a machine of this name is a member/,
      );
      await b.weir(["join", token]);
      assert.match(await b.refused("join", token), /already/);
      await b.startAgent();
      const key = await b.ok(["stat", "-c", "%a %U", "/var/lib/weir/host/node.key"]);
      assert.match(key, /^600 (weir|nobody)\n$/);
      const machines = JSON.parse(await a.weir(["cluster", "nodes", "-o", "json"]));
      assert.deepEqual(
        machines.map((
          { name, state, member }: { name: string; state: string; member: { role: string } },
        ) => [name, state, member.role]),
        [["server-a", "member", "control-plane"], ["server-b", "member", "node"]],
      );
    });

    await step("no process but root's gets a certificate from the authority's local socket", async () => {
      const sockets = "/run/weir/host";
      const uid = (await a.ok(["stat", "-c", "%u", "/var/lib/weir/host/certificate-authority"])).trim();
      assert.notEqual(uid, "0");
      const gid = (await a.ok(["stat", "-c", "%g", sockets])).trim();
      assert.equal(
        await a.ok(["stat", "-c", "%a %u", `${sockets}/certificate-authority.sock`]),
        "600 0\n",
      );
      const asService = ["setpriv", `--reuid=${uid}`, `--regid=${gid}`, "--clear-groups", "--"];
      const ask = async (as: string[], socket: string, ...more: string[]) => {
        const words = ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "--unix-socket"];
        const { code, out } = await a.run([...as, ...words, `${sockets}/${socket}`, ...more]);
        return code === 0 ? out : `curl ends with ${code}`;
      };
      const issue = [
        ...["-X", "POST", "-H", "content-type: application/json", "-d"],
        JSON.stringify({
          node: "server-a",
          role: "control-plane",
          addresses: ["192.0.2.2:7440"],
          force: true,
        }),
        "http://x/v1/certificates:issue",
      ];
      const token = ["-X", "POST", "-d", '{"kind":"join"}', "http://x/v1/tokens"];
      const remove = ["-X", "DELETE", "http://x/v1/members/server-a"];
      const members = "http://x/v1/members";
      for (const more of [issue, token, remove, [members]]) {
        // 7: could not connect
        assert.equal(await ask(asService, "certificate-authority.sock", ...more), "curl ends with 7");
      }
      for (const more of [issue, token, remove]) {
        assert.equal(await ask(asService, "certificate-authority-read.sock", ...more), "403");
      }
      assert.equal(await ask(asService, "certificate-authority-read.sock", members), "200");
      // Root is answered there: of that request only the key is missing.
      assert.equal(await ask([], "certificate-authority.sock", ...issue), "400");
      assert.equal(await ask([], "certificate-authority.sock", members), "200");
    });

    await step("traffic and policy across", async () => {
      await a.weir(["policy", "apply", "-f", "-"], POLICY);
      for (const [machine, name] of [[a, "web"], [b, "client"], [b, "stranger"]] as const) {
        await machine.ok(["ip", "netns", "add", name]);
        await machine.weir(["endpoint", "add", name, "--netns", name, "--label", `app=${name}`, "--wait"]);
      }
      const web = JSON.parse(await a.weir(["endpoint", "get", "web", "-o", "json"]));
      a.background("ip", "netns", "exec", "web", "python3", "-m", "http.server", "80", "--bind", "0.0.0.0");
      const reaches = async (name: string, patienceS = 20) => {
        const url = `http://${web.status.ipv4}/`;
        return (await b.run([
          "ip",
          "netns",
          "exec",
          name,
          "curl",
          "-s",
          "-o",
          "/dev/null",
          "--max-time",
          `${patienceS}`,
          url,
        ]))
          .code === 0;
      };
      await until("the client reaches the web", () => reaches("client"));
      assert.equal(await reaches("stranger", 2), false);
      assert.match(await b.weir(["policy", "list"]), /web/);
      assert.match(await b.weir(["identity", "list"]), /app=web/);
      assert.match(
        await b.refused("policy", "delete", "cnp:default/web"),
        /as node server-b: this role may not/,
      );
    });

    const relayReady = [
      "curl",
      "-s",
      "--unix-socket",
      "/run/weir/host/relay.sock",
      "http://x/readyz?verbose",
    ];
    await step("the relay reads the flows of both machines, and no other machine does", async () => {
      await until("the relay has both", async () => /2 connected/.test((await a.run(relayReady)).out));
      const asks = async (machine: Machine, address: string, directory: string) => {
        const { code, out } = await machine.run([
          ...["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "--max-time", "20", "--http2"],
          ...["--resolve", `observer.weir.internal:4244:${address}`, "--cacert", "/var/lib/weir/host/ca.crt"],
          ...certificate(directory),
          "https://observer.weir.internal:4244/",
        ]);
        return code === 0 ? out : "refused";
      };
      // 415: it was let in, and asks for nothing of gRPC.
      const own = "/var/lib/weir/host", reader = `${own}/reader`;
      for (const directory of [own, reader]) {
        await until("the relay's machine may", async () => await asks(a, "192.0.2.2", directory) === "415");
        assert.equal(await asks(b, "192.0.2.1", directory), "refused", directory);
      }
      if (isBuilt) {
        const relay = ["--server", "unix:///run/weir/host/hubble-relay.sock", "--config", "/dev/null"];
        const nodes = await a.ok([HUBBLE, "list", "nodes", ...relay]);
        assert.match(nodes, /server-a +Connected[^]*server-b +Connected/);
        await until("flows of both are shown", async () => {
          const out = await a.ok([HUBBLE, "observe", "--all", "-o", "jsonpb", ...relay]);
          return ["server-a", "server-b"].every((name) => out.includes(`"node_name":"default/${name}"`));
        });
      }
    });

    await step(
      "a person on another machine sees the cluster's flows, with files from one command, until they are revoked",
      async () => {
        const directory = "/var/lib/weir/eva";
        const said = await a.weir(["cluster", "certificate", "eva", "--out", directory]);
        assert.match(said, /hubble observe --server tls:\/\/192\.0\.2\.1:4245 /);
        assert.match(
          await a.refused("cluster", "certificate", "eva", "--out", directory),
          /it is there already/,
        );
        assert.equal((await a.ok(["stat", "-c", "%a", `${directory}/client.key`])).trim(), "600");
        // By hand, as she would take them along.
        await b.ok(["mkdir", directory]);
        for (const file of ["client.crt", "client.key", "ca.crt"]) {
          const text = await a.ok(["cat", `${directory}/${file}`]);
          await b.ok(["sh", "-c", `printf %s "$1" >"$2"`, "_", text, `${directory}/${file}`]);
        }
        const asks = async (cert: string, key: string) => {
          const { code, out } = await b.run([
            ...["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "--max-time", "20", "--http2"],
            ...["--resolve", "observer.weir.internal:4245:192.0.2.1", "--cacert", `${directory}/ca.crt`],
            ...["--cert", cert, "--key", key, "https://observer.weir.internal:4245/"],
          ]);
          return code === 0 ? out : "refused";
        };
        const hers = [`${directory}/client.crt`, `${directory}/client.key`] as const;
        await until("she may", async () => await asks(...hers) === "415");
        const own = "/var/lib/weir/host";
        for (const machine of [own, `${own}/reader`]) {
          assert.equal(await asks(`${machine}/node.crt`, `${machine}/node.key`), "refused", machine);
        }
        if (isBuilt) {
          const seen = await b.ok([
            ...[HUBBLE, "observe", "--last", "5", "-o", "jsonpb", "--config", "/dev/null"],
            ...["--server", "tls://192.0.2.1:4245", "--tls-server-name", "observer.weir.internal"],
            ...["--tls-ca-cert-files", `${directory}/ca.crt`, "--tls-client-cert-file", hers[0]],
            ...["--tls-client-key-file", hers[1]],
          ]);
          assert.match(seen, /"node_name":"default\/server-[ab]"/);
        }
        const files = [
          ...["--tls-ca-cert-files", `${directory}/ca.crt`],
          ...["--tls-client-cert-file", hers[0], "--tls-client-key-file", hers[1]],
        ];
        const relay = ["--server", "tls://192.0.2.1", "observe", "--last", "3"];
        assert.match(
          await b.weir([...relay, ...files, "--tls-server-name", "observer.weir.internal", "-o", "json"]),
          /"node_name":"default\/server-[ab]"/,
        );
        const posing = [...relay, ...files, "--tls-server-name", "somebody.else"];
        assert.match(await b.refused(...posing), /192\.0\.2\.1:4245: cannot connect/);
        const tokens = JSON.parse(await a.weir(["cluster", "token", "list", "-o", "json"]));
        const { id } = tokens.find(({ kind, name }: Record<string, string>) =>
          kind === "certificate" && name === "eva"
        );
        await a.weir(["cluster", "token", "revoke", id]);
        await until("she may not any more", async () => await asks(...hers) === "refused");
      },
    );

    await step("a node that lies, and strangers", async () => {
      const plane = (port: number, path: string) => `https://192.0.2.1:${port}${path}`;
      const put = (
        body: object,
      ) => ["-X", "PUT", "-H", "content-type: application/json", "-d", JSON.stringify(body)];
      const post = (body: object) => ["-X", "POST", ...put(body).slice(2)];
      const web = JSON.parse(await a.weir(["endpoint", "get", "web", "-o", "json"]));
      const prefix = encodeURIComponent(`${web.status.ipv4}/32`);
      const lies: [number, string, string[]][] = [
        [7441, "/v1/nodes/server-a", put({ ipv4: "192.0.2.2" })],
        [7441, `/v1/ipcache/${prefix}`, put({ node: "server-b", identity: 256 })],
        [7441, `/v1/ipcache/${prefix}`, put({ node: "server-a", identity: 256 })],
        [7441, `/v1/ipcache/${prefix}`, ["-X", "DELETE"]],
        [
          7441,
          "/v1/identities:allocate",
          post({ node: "server-a", holder: "web", labels: ["k8s:app=client"] }),
        ],
        [7441, "/v1/identities:release", post({ node: "server-a", holder: "web" })],
        [7440, "/v1/members/server-a", ["-X", "DELETE"]],
      ];
      for (const [port, path, more] of lies) {
        const answer = await b.curl(plane(port, path), ...OWN, ...more);
        assert.deepEqual(answer, { status: 403, code: "NOT_OWNER" }, `${path} ${more.join(" ")}`);
      }
      // The flow exporter has a certificate of its own, which reads what it needs.
      const ready = ["curl", "-sf", "--unix-socket", "/run/weir/host/flow-exporter.sock", "http://x/readyz"];
      await until("the flow exporter is ready", async () => (await b.run(ready)).code === 0);
      for (const [port, path, more] of lies) {
        assert.equal((await b.curl(plane(port, path), ...READER, ...more)).code, "FORBIDDEN", path);
      }
      assert.equal((await b.curl(plane(7442, "/v1/policies"), ...READER)).code, "FORBIDDEN");
      assert.equal((await b.curl(plane(7442, "/v1/rules"), ...READER)).status, 200);
      const renew = post({ requestPem: "x", role: "reader" });
      assert.equal(
        (await b.curl(plane(7440, "/v1/certificates:renew"), ...READER, ...renew)).code,
        "FORBIDDEN",
      );
      const permissions = JSON.parse(
        await b.ok([
          "curl",
          "-s",
          "--unix-socket",
          "/run/weir/host/agent.sock",
          "http://x/v1/processes/flow-exporter",
        ]),
      ).permissions.join(" ");
      assert.match(permissions, /host\/reader\/node\.key/);
      assert.doesNotMatch(permissions, /host\/node\.key/);
      for (const path of ["/v1/policies:apply", "/v1/policies:delete"]) {
        assert.equal((await b.curl(plane(7442, path), ...OWN, ...post({}))).code, "FORBIDDEN");
      }
      assert.equal((await b.curl(plane(7440, "/v1/tokens"), ...OWN, ...post({}))).code, "FORBIDDEN");
      for (const port of [7441, 7442, 7443]) {
        assert.equal((await b.curl(plane(port, "/v1/nodes"))).code, "UNAUTHENTICATED");
        assert.equal((await b.curl(plane(port, "/readyz"), ...OWN)).status, 200);
      }
      const viewer = (await a.weir(["cluster", "token", "--role", "viewer", "--name", "eva"])).trim();
      const bearer = ["-H", `authorization: Bearer ${viewer}`];
      assert.equal((await b.curl(plane(7442, "/v1/policies"), ...bearer)).status, 200);
      assert.equal(
        (await b.curl(plane(7442, "/v1/policies:delete"), ...bearer, ...post({}))).code,
        "FORBIDDEN",
      );
      const id = viewer.split("_")[1];
      await a.weir(["cluster", "token", "revoke", id]);
      await until(
        "the token is nobody's",
        async () => (await b.curl(plane(7442, "/v1/policies"), ...bearer)).code === "UNAUTHENTICATED",
      );
    });

    await step("certificates are renewed while the agents run, the streams go on", async () => {
      const read = (machine: Machine) => machine.ok(["cat", "/var/lib/weir/host/node.crt"]);
      const before = [await read(a), await read(b)];
      await until("both are renewed", async () => await read(a) !== before[0] && await read(b) !== before[1]);
      assert.match(await b.weir(["policy", "list"]), /web/);
      await b.ok(["ip", "netns", "add", "late"]);
      await b.weir(["endpoint", "add", "late", "--netns", "late", "--label", "app=late", "--wait"]);
    });

    await step("leave: the name is free, the old certificate is refused on every port", async () => {
      assert.match(await b.refused("cluster", "leave"), /while the agent runs/);
      await b.stopAgent();
      await b.ok(["cp", "-r", "/var/lib/weir/host", "/run/stolen"]);
      await b.weir(["cluster", "leave"]);
      await b.ok(["cp", "/run/stolen/ca.crt", "/var/lib/weir/host/ca.crt"]);
      for (const port of [7440, 7441, 7442, 7443]) {
        const url = `https://192.0.2.1:${port}/readyz`;
        await until(
          `${port} refuses the old certificate`,
          async () => (await b.curl(url, ...certificate("/run/stolen"))).code === "CERTIFICATE_REMOVED",
        );
      }
      const machines = JSON.parse(await a.weir(["cluster", "nodes", "-o", "json"]));
      assert.deepEqual(
        machines.map((
          { name, state, node }: { name: string; state: string; node?: object },
        ) => [name, state, node !== undefined]),
        [["server-a", "member", true], ["server-b", "removed", false]],
      );
    });

    await step("join again, and removed by the control plane", async () => {
      await b.weir(["join", (await a.weir(["cluster", "token"])).trim()]);
      await b.startAgent();
      assert.match(await b.weir(["policy", "list"]), /web/);
      const authority = "/var/lib/weir/host/certificate-authority", yesterday = "/run/yesterday";
      await a.ok(["cp", "-a", authority, yesterday]);
      const kept = () => a.ok(["stat", "-c", "%i %y", "/var/lib/weir/host/withdrawals"]);
      const before = await kept();
      await until("the relay has both again", async () => /2 connected/.test((await a.run(relayReady)).out));
      await a.weir(["cluster", "remove", "server-b"]);
      await until("the relay has one", async () => / 1 connected/.test((await a.run(relayReady)).out));
      // Its streams are cut and its heartbeats refused: it does not come back by itself.
      for (const url of ["https://192.0.2.1:7442/v1/policies", "https://192.0.2.1:7441/v1/nodes"]) {
        await until(
          `${url} refuses it`,
          async () => (await b.curl(url, ...OWN)).code === "CERTIFICATE_REMOVED",
        );
      }
      assert.match(await b.refused("policy", "list"), /was removed from the cluster/);
      // Nor when the authority's database comes back from before the removal.
      await until("the removal is kept", async () => await kept() !== before);
      await a.stopAgent();
      await a.ok(["rm", "-r", authority]);
      await a.ok(["cp", "-a", yesterday, authority]);
      await a.startAgent("--certificate-lifetime-s", String(LIFETIME_S));
      for (const port of [7440, 7441, 7442, 7443]) {
        const answer = await b.curl(`https://192.0.2.1:${port}/readyz`, ...OWN);
        assert.equal(answer.code, "CERTIFICATE_REMOVED", `${port}: ${JSON.stringify(answer)}`);
      }
      const machines = JSON.parse(await a.weir(["cluster", "nodes", "-o", "json"]));
      assert.equal(machines.find(({ name }: { name: string }) => name === "server-b").state, "removed");
    });
  },
});

// deno-lint-ignore no-explicit-any
function contentOf(token: string): any {
  return JSON.parse(atob(token.slice("weir-join.".length).replaceAll("-", "+").replaceAll("_", "/")));
}

/** The token with a part of it changed. */
// deno-lint-ignore no-explicit-any
function tampered(token: string, change: (json: any) => void): string {
  const json = contentOf(token);
  change(json);
  return "weir-join." +
    btoa(JSON.stringify(json)).replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
}
