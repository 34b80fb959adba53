import assert from "node:assert/strict";
import { systemClock } from "@weir/common";
import { createCertificateRequest } from "@weir/common/certificate-request";
import { Authority, createAuthority } from "../../certificate-authority/authority.ts";
import { authorityClient } from "./otlp_client.ts";
import { type OtlpTarget, sendOtlp } from "./otlp_sender.ts";

const BODY = JSON.stringify({
  resourceLogs: Array.from({ length: 500 }, (_, n) => ({ flow: `shop/cart ${n}` })),
});

Deno.test("sendOtlp() compresses where it is told to, and says so", async () => {
  for (const compression of ["gzip", "none"] as const) {
    let bytes = 0, text = "", encoding: string | null = "";
    const server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen() {} }, async (request) => {
      const body = await request.bytes();
      encoding = request.headers.get("content-encoding");
      bytes = body.length;
      const packed = new Blob([body]).stream();
      text = await new Response(encoding ? packed.pipeThrough(new DecompressionStream("gzip")) : packed)
        .text();
      return Response.json({});
    });
    try {
      const endpoint = `http://127.0.0.1:${(server.addr as Deno.NetAddr).port}`;
      const target = { endpoint, headers: {}, compression };
      assert.equal((await sendOtlp(target, "logs", BODY, { clock: systemClock })).kind, "taken");
      assert.equal(text, BODY);
      assert.equal(encoding, compression === "gzip" ? "gzip" : null);
      if (compression === "gzip") assert.ok(bytes < BODY.length / 4, `${bytes} of ${BODY.length}`);
    } finally {
      await server.shutdown();
    }
  }
});

Deno.test("sendOtlp() believes the authorities of a file, as it is now, and no others", async () => {
  const stored = await createAuthority("c", Date.now()), authority = await Authority.load("c", stored);
  const { requestPem, keyPem: key } = await createCertificateRequest("n");
  const peer = { role: "reader", node: "n" } as const;
  const options = { peer, hosts: ["localhost"], nowMs: Date.now(), lifetimeMs: 3_600_000 };
  const { certificatePem: cert } = await authority.issue(requestPem, options);
  const server = Deno.serve(
    { hostname: "127.0.0.1", port: 0, cert, key, onListen() {} },
    async (request) => (await request.bytes(), Response.json({})),
  );
  const path = await Deno.makeTempFile();
  let nowMs = 0;
  const client = authorityClient(path, { monotonicMs: () => nowMs });
  const target: OtlpTarget = {
    endpoint: `https://localhost:${(server.addr as Deno.NetAddr).port}`,
    headers: {},
    compression: "gzip",
  };
  const send = async (more: Partial<OtlpTarget> = {}) => {
    const outcome = await sendOtlp({ ...target, ...more }, "logs", BODY, { clock: systemClock });
    return `${outcome.kind} ${outcome.why}`;
  };
  try {
    assert.match(await send(), /^later .*(UnknownIssuer|invalid peer certificate)/);
    assert.match(await send({ client }), /^later .*has no certificate: expected PEM/);
    await Deno.writeTextFile(path, (await createAuthority("other", Date.now())).certificatePem);
    assert.match(await send({ client }), /^later .*(UnknownIssuer|invalid peer certificate)/);
    await Deno.writeTextFile(path, stored.certificatePem);
    nowMs += 60_000;
    assert.match(await send({ client }), /^taken/);
    await Deno.remove(path);
    assert.match(await send({ client }), /^taken/, "until it is looked at again");
    nowMs += 60_000;
    assert.match(await send({ client }), /^later .*No such file/);
  } finally {
    await server.shutdown();
    await Deno.remove(path).catch(() => {});
  }
});
