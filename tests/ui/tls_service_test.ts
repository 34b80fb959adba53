/**
 * The resident page beyond loopback, over TLS: who gets in by a token or a certificate and who does not, and certificates that are
 * renewed while somebody reads.
 * @module
 */
import assert from "node:assert/strict";
import { createCertificateRequest } from "@weir/common/certificate-request";
import { until } from "@weir/common/testing/until";
import { Authority, createAuthority } from "../../services/certificate-authority/authority.ts";
import { canRun, Lab, run } from "../e2e/weir.ts";
import { startLabUi } from "./lab_ui.ts";

const NAME = "page.example", PORT = 12443, TOKEN = "a-token-of-twenty-six-letters";
const POLICY = `
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: { name: web, namespace: shop }
spec: { endpointSelector: { matchLabels: { app: web } }, ingress: [{}] }
`;

/** An authority, and what it gives. */
async function authorityOf() {
  const stored = await createAuthority("c", Date.now()), authority = await Authority.load("c", stored);
  return {
    pem: stored.certificatePem,
    async issue(): Promise<{ cert: string; key: string }> {
      const { requestPem, keyPem } = await createCertificateRequest("n");
      const { certificatePem } = await authority.issue(requestPem, {
        peer: { role: "reader", node: "n" },
        hosts: [NAME],
        nowMs: Date.now(),
        lifetimeMs: 3_600_000,
      });
      return { cert: certificatePem, key: keyPem };
    },
  };
}

/** Whole or not at all, as those who renew certificates write. */
async function write(path: string, text: string): Promise<void> {
  await Deno.writeTextFile(`${path}.new`, text);
  await Deno.chmod(`${path}.new`, 0o644);
  await Deno.rename(`${path}.new`, path);
}

Deno.test({
  name: "the resident page lets in over TLS by token or certificate, nobody else, and takes new certificates",
  ignore: !canRun,
  async fn(t) {
    const lab = new Lab(`tls${Deno.pid}`), directory = await Deno.makeTempDir({ prefix: "weir-ui-tls-" });
    const ours = await authorityOf(), foreign = await authorityOf(), first = await ours.issue();
    const file = (name: string) => `${directory}/${name}`, own = file("page");
    await Deno.chmod(directory, 0o755);
    await Deno.mkdir(own, { mode: 0o755 });
    const put = async (name: string, { cert, key }: { cert: string; key: string }) => {
      await write(file(`${name}.key`), key);
      await write(file(`${name}.crt`), cert);
    };
    await put("page/node", first);
    await write(file("page/ca.crt"), ours.pem);
    await write(file("trusted.crt"), ours.pem + foreign.pem);
    await put("reader", await ours.issue());
    await put("stranger", await foreign.issue());
    await write(file("token"), `${TOKEN}\n`);
    /** curl on the node, by the page's name. */
    const words = (path: string, more: string[]) => [
      ...["netns", "exec", `weir-${lab.name}--node-1`, "curl", "-s", "-m", "30"],
      ...["--cacert", file("trusted.crt"), "--resolve", `${NAME}:${PORT}:127.0.0.1`, ...more],
      `https://${NAME}:${PORT}/${path}`,
    ];
    const status = async (path: string, ...more: string[]) => {
      const { code, out } = await run("ip", words(path, ["-o", "/dev/null", "-w", "%{http_code}", ...more]));
      return `${out} exit ${code}`;
    };
    const bearer = ["-H", `Authorization: Bearer ${TOKEN}`];
    const certificate = (name: string) => ["--cert", file(`${name}.crt`), "--key", file(`${name}.key`)];
    /** The certificate that it shows, PEM. */
    const shown = async () => {
      const { out } = await run("ip", words("api/session", [...bearer, "-o", "/dev/null", "-w", "%{certs}"]));
      return /-----BEGIN[^]*?-----END CERTIFICATE-----/.exec(out)?.[0];
    };
    const options = [`ui-listen=0.0.0.0:${PORT}`, `ui-host=${NAME}`, `ui-tls-directory=${own}`];
    try {
      await lab.up(
        1,
        POLICY,
        [...options, `ui-token-file=${file("token")}`].flatMap((one) => ["--agent", one]),
      );
      await until("the page is there", async () => await status("api/session", ...bearer) === "200 exit 0");
      await t.step("by token or certificate, and by nothing else", async () => {
        assert.equal(await status("api/session"), "401 exit 0");
        assert.equal(await status(`map?token=${TOKEN}`), "303 exit 0");
        assert.equal(await status("map?token=not-this-one-but-another"), "401 exit 0");
        assert.equal(await status("api/map", ...certificate("reader")), "200 exit 0");
        assert.equal(await status("api/map", ...certificate("stranger")), "401 exit 0");
        assert.equal(await status("api/map", ...bearer, "-H", "Host: other.example"), "421 exit 0");
        assert.match(await status("api/map", ...bearer, "--tls-max", "1.2"), /^000 exit (35|56)$/);
      });
      await t.step("who has a ticket gets in beside them", async () => {
        const ui = await startLabUi(lab.name);
        try {
          assert.equal((await ui.get("api/session")).status, 200);
        } finally {
          await ui.stop();
        }
      });
      await t.step("a new certificate is shown without a restart, a half written one never", async () => {
        const stream = new Deno.Command("ip", {
          args: words("api/live", ["-N", "-m", "600", ...certificate("reader")]),
          stdin: "null",
          stdout: "piped",
        }).spawn();
        const reader = stream.stdout.getReader();
        try {
          assert.ok(!(await reader.read()).done);
          const before = await shown(), second = await ours.issue();
          assert.equal(before?.replace(/\s/g, ""), first.cert.replace(/\s/g, ""));
          await write(`${own}/node.crt`, second.cert);
          // It looks every two seconds.
          await new Promise((resolve) => setTimeout(resolve, 5000));
          assert.equal(await shown(), before);
          await write(`${own}/ca.crt`, "half of a");
          await new Promise((resolve) => setTimeout(resolve, 5000));
          assert.equal(await status("api/map", ...certificate("reader")), "200 exit 0");
          await write(`${own}/ca.crt`, ours.pem);
          await write(`${own}/node.key`, second.key);
          await until(
            "the new certificate is shown",
            async () => (await shown())?.replace(/\s/g, "") === second.cert.replace(/\s/g, ""),
          );
          assert.equal(await status("api/map", ...certificate("reader")), "200 exit 0");
          assert.equal(await status("api/map"), "401 exit 0");
          for (let reads = 0; reads < 3; reads++) assert.ok(!(await reader.read()).done, "who reads goes on");
        } finally {
          stream.kill("SIGKILL");
          await reader.cancel();
          await stream.status;
        }
      });
      await t.step(
        "with another authority its certificates let in, and those of the old one no more",
        async () => {
          const third = await foreign.issue();
          await write(`${own}/ca.crt`, foreign.pem);
          await put("page/node", third);
          await until(
            "the new certificate is shown",
            async () => (await shown())?.replace(/\s/g, "") === third.cert.replace(/\s/g, ""),
          );
          assert.equal(await status("api/map", ...certificate("stranger")), "200 exit 0");
          assert.equal(await status("api/map", ...certificate("reader")), "401 exit 0");
        },
      );
    } finally {
      await lab.down();
      await Deno.remove(directory, { recursive: true });
    }
  },
});
