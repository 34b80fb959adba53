import assert from "node:assert/strict";
import { ProblemError } from "@weir/common/problem";
import { checkServer, inClusterAccess } from "./access.ts";
import { kubeconfigAccess, kubeconfigPath, readKubeconfig } from "./kubeconfig.ts";

const PEM = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";

function config(cluster: string, user: string, more = ""): string {
  return `
apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: "https://10.0.0.1:6443", ${cluster}}}]
users: [{name: u, user: {${user}}}]
contexts: [{name: x, context: {cluster: c, user: u, namespace: n}}]
current-context: x
${more}`;
}

Deno.test("readKubeconfig() gives what people's files say", async () => {
  const access = readKubeconfig(
    config(`certificate-authority-data: ${btoa(PEM + PEM)}`, "token: secret"),
    "/home/a/.kube/config",
  );
  assert.equal(access.server, "https://10.0.0.1:6443");
  assert.equal(access.authorities.length, 2);
  assert.equal(await access.token?.get(), "secret");
  assert.equal(access.namespace, "n");
  const files: string[] = [];
  const other = readKubeconfig(
    config(
      "certificate-authority: ca.crt",
      `client-certificate: /pki/me.crt, client-key-data: ${btoa("KEY")}`,
    ),
    "/home/a/.kube/config",
    {
      readFile: (path) => {
        files.push(path);
        return path.endsWith("ca.crt") ? PEM : "CERT";
      },
    },
  );
  assert.deepEqual(files, ["/pki/me.crt", "/home/a/.kube/ca.crt"]);
  assert.deepEqual(other.certificate, { certPem: "CERT", keyPem: "KEY" });
});

Deno.test("readKubeconfig() asks a program for a token, again when that has ended", async () => {
  const directory = await Deno.makeTempDir();
  await Deno.writeTextFile(
    `${directory}/login`,
    `#!/bin/sh
echo x >>${directory}/runs
case "$KUBERNETES_EXEC_INFO" in *client.authentication.k8s.io/v1*) ;; *) exit 3;; esac
echo '{"kind":"ExecCredential","status":{"token":"'$WORD-$1'","expirationTimestamp":"2020-01-01T00:00:00Z"}}'
`,
    { mode: 0o755 },
  );
  const exec =
    `exec: {apiVersion: client.authentication.k8s.io/v1, command: ./login, args: [b], env: [{name: WORD, value: a}]}`;
  const { token } = readKubeconfig(config("", exec), `${directory}/config`);
  assert.equal(await token?.get(), "a-b");
  assert.equal(await token?.get(), "a-b");
  assert.equal((await Deno.readTextFile(`${directory}/runs`)).length, 4);
  const bad = readKubeconfig(config("", exec.replace("/v1,", "/v0,")), `${directory}/config`).token;
  await assert.rejects(async () => await bad?.get(), { code: "EXEC_FAILED" });
  await Deno.remove(directory, { recursive: true });
});

Deno.test("readKubeconfig() refuses by name what it cannot do", () => {
  const cases: [string, RegExp][] = [
    ["a: [", /cannot be read/],
    ["[]", /no mapping/],
    ["{}", /no context/],
    [config("", "token: a").replace("cluster: c,", "cluster: d,"), /no cluster "d"/],
    [config("insecure-skip-tls-verify: true", "token: a"), /insecure-skip-tls-verify/],
    [config("tls-server-name: x", "token: a"), /tls-server-name/],
    [config("", "username: a, password: b"), /password/],
    [config("", "client-certificate-data: QQ=="), /without a key/],
    [config("certificate-authority-data: '*'", "token: a"), /certificate-authority cannot be read/],
    [config("", "exec: {args: [a]}"), /no command/],
    [config("", "token: a").replace("https", "http"), /https:\/\/HOST/],
  ];
  for (const [text, words] of cases) {
    assert.throws(() => readKubeconfig(text, "/x"), (error) => {
      assert.ok(error instanceof ProblemError);
      assert.match(`${error.message} ${error.problem.expected}`, words);
      return true;
    });
  }
  assert.throws(() => kubeconfigAccess("/nowhere/config"), { code: "KUBECONFIG_INVALID" });
});

Deno.test("kubeconfigPath() looks where kubectl looks", () => {
  const path = (env: Record<string, string>) => kubeconfigPath((name) => env[name]);
  assert.equal(path({ KUBECONFIG: ":/a:/b", HOME: "/h" }), "/a");
  assert.equal(path({ HOME: "/h" }), "/h/.kube/config");
  assert.equal(path({}), undefined);
});

Deno.test("checkServer() takes no URL on which a token would be read by others", () => {
  assert.equal(checkServer("https://a.example:6443/"), "https://a.example:6443");
  assert.equal(checkServer("http://127.0.0.1:80/x/"), "http://127.0.0.1/x");
  for (const text of ["http://10.0.0.1", "a.example:6443", "https://me:pw@a", "https://a?x=1", ""]) {
    assert.throws(() => checkServer(text), { code: "API_SERVER_INVALID" });
  }
});

Deno.test("inClusterAccess() has the pod's authority and token, at the address it is told", async () => {
  const directory = await Deno.makeTempDir();
  await Deno.writeTextFile(`${directory}/ca.crt`, PEM);
  await Deno.writeTextFile(`${directory}/token`, "t\n");
  const env = (name: string) =>
    ({ KUBERNETES_SERVICE_HOST: "fd00::1", KUBERNETES_SERVICE_PORT: "443" } as Record<string, string>)[name];
  const access = inClusterAccess({ directory, env });
  assert.equal(access.server, "https://[fd00::1]");
  assert.equal(await access.token?.get(), "t");
  assert.equal(
    inClusterAccess({ directory, env, server: "https://172.30.0.1:6443" }).server,
    "https://172.30.0.1:6443",
  );
  assert.throws(() => inClusterAccess({ directory, env: () => undefined }), { code: "NOT_IN_CLUSTER" });
  await Deno.remove(directory, { recursive: true });
  assert.throws(() => inClusterAccess({ directory, env }), { code: "AUTHORITY_UNREADABLE" });
});
