// @huggingface/hub against a real hub: everything that it exports for repositories, files and collections.
// HF_ENDPOINT, TOKEN (ann's), BOB (bob's token), MODULES (where the client is installed) are in the environment.
import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";

const hub = createRequire(join(process.env.MODULES, "package.json"))("@huggingface/hub");
const hubUrl = process.env.HF_ENDPOINT;
const ann = { accessToken: process.env.TOKEN, hubUrl };
const bob = { accessToken: process.env.BOB, hubUrl };
const anyone = { hubUrl };

let count = 0;
const newName = () => `js-${process.pid}-${count++}`;
const sha256 = (bytes) => createHash("sha256").update(bytes).digest("hex");

async function collect(iterator) {
  const found = [];
  for await (const item of iterator) found.push(item);
  return found;
}

async function newRepo(type = "model", more = {}) {
  const name = `ann/${newName()}`;
  const repo = { type, name };
  const made = await hub.createRepo({ ...ann, repo, ...more });
  const prefix = type === "model" ? "" : `${type}s/`;
  assert.equal(made.repoUrl, `${hubUrl}/${prefix}${name}`);
  return repo;
}

async function bytesOf(blob) {
  return Buffer.from(await blob.arrayBuffer());
}

async function refused(promise, status) {
  await assert.rejects(promise, (error) => {
    assert.equal(error.statusCode, status, String(error));
    assert.ok(error.message.length > 0);
    return true;
  });
}

test("who am I", async () => {
  const me = await hub.whoAmI(ann);
  assert.equal(me.type, "user");
  assert.equal(me.name, "ann");
  assert.equal(me.auth.accessToken.role, "write");
  await refused(hub.whoAmI({ accessToken: "hf_nobody", hubUrl }), 401);
});

for (const type of ["model", "dataset", "space"]) {
  test(`the life of a ${type}`, async () => {
    const files = [{ path: "first.txt", content: new Blob(["first"]) }];
    const repo = await newRepo(type, type === "space" ? { sdk: "static" } : { files });
    assert.equal(await hub.repoExists({ ...ann, repo }), true);
    assert.equal(await hub.repoExists({ ...ann, repo: { type, name: "ann/js-nothing" } }), false);
    await hub.checkRepoAccess({ ...ann, repo });
    await refused(hub.createRepo({ ...ann, repo, sdk: type === "space" ? "static" : undefined }), 409);
    await refused(hub.createRepo({ ...bob, repo, sdk: type === "space" ? "static" : undefined }), 403);
    if (type !== "space") {
      const blob = await hub.downloadFile({ ...ann, repo, path: "first.txt" });
      assert.equal(await blob.text(), "first");
    }
    await refused(hub.deleteRepo({ ...bob, repo }), 403);
    await hub.deleteRepo({ ...ann, repo });
    assert.equal(await hub.repoExists({ ...ann, repo }), false);
    await refused(hub.checkRepoAccess({ ...ann, repo }), 404);
  });
}

test("a private repository is hidden from others", async () => {
  const repo = await newRepo("model", { visibility: "private" });
  assert.equal(await hub.repoExists({ ...bob, repo }), false);
  assert.equal(await hub.repoExists({ ...anyone, repo }), false);
  await refused(hub.checkRepoAccess({ ...bob, repo }), 404);
  await refused(hub.checkRepoAccess({ ...anyone, repo }), 401);
  await refused(hub.uploadFile({ ...bob, repo, file: { path: "x", content: new Blob(["x"]) } }), 404);
});

test("small files, a commit with deletions, and lists of them", async () => {
  const repo = await newRepo();
  const one = await hub.uploadFile({ ...ann, repo, file: { path: "a.txt", content: new Blob(["one"]) }, commitTitle: "Add a" });
  assert.match(one.commit.oid, /^[0-9a-f]{40}$/);
  assert.ok(one.commit.url.startsWith(hubUrl), one.commit.url);
  await hub.uploadFiles({
    ...ann,
    repo,
    files: ["b/c.txt", "b/d/e f.txt", "b/ü.txt"].map((path) => ({ path, content: new Blob([path]) })),
  });
  const paths = async (more) => (await collect(hub.listFiles({ ...ann, repo, ...more }))).map((file) => file.path).sort();
  assert.deepEqual(await paths({}), [".gitattributes", "a.txt", "b"]);
  assert.deepEqual(await paths({ path: "b" }), ["b/c.txt", "b/d", "b/ü.txt"]);
  const all = await paths({ recursive: true });
  assert.deepEqual(all, [".gitattributes", "a.txt", "b", "b/c.txt", "b/d", "b/d/e f.txt", "b/ü.txt"]);
  const expanded = await collect(hub.listFiles({ ...ann, repo, expand: true }));
  const entry = expanded.find((file) => file.path === "a.txt");
  assert.equal(entry.lastCommit.id, one.commit.oid);
  assert.equal(entry.lastCommit.title, "Add a");
  for (const path of ["a.txt", "b/d/e f.txt", "b/ü.txt"]) {
    assert.equal(await hub.fileExists({ ...ann, repo, path }), true, path);
    const blob = await hub.downloadFile({ ...ann, repo, path });
    assert.equal(await blob.text(), path === "a.txt" ? "one" : path);
  }
  assert.equal(await hub.fileExists({ ...ann, repo, path: "none.txt" }), false);
  assert.equal(await hub.downloadFile({ ...ann, repo, path: "none.txt" }), null);
  await hub.commit({
    ...ann,
    repo,
    title: "One in, two out",
    description: "and why",
    operations: [
      { operation: "addOrUpdate", path: "a.txt", content: new Blob(["two"]) },
      { operation: "delete", path: "b/c.txt" },
      { operation: "delete", path: "b/d/e f.txt" },
    ],
  });
  assert.deepEqual(await paths({ recursive: true }), [".gitattributes", "a.txt", "b", "b/ü.txt"]);
  await hub.deleteFile({ ...ann, repo, path: "a.txt" });
  await hub.deleteFiles({ ...ann, repo, paths: ["b/ü.txt"] });
  assert.deepEqual(await paths({ recursive: true }), [".gitattributes"]);
  const commits = await collect(hub.listCommits({ ...ann, repo, batchSize: 2 }));
  assert.equal(commits.length, 6);
  assert.equal(await hub.countCommits({ ...ann, repo }), 6);
  assert.equal(await hub.countCommits({ ...ann, repo, revision: one.commit.oid }), 2);
  assert.equal(commits[2].title, "One in, two out");
  assert.equal(commits[2].authors[0].username, "ann");
  await refused(hub.uploadFile({ ...bob, repo, file: { path: "x", content: new Blob(["x"]) } }), 403);
  await refused(
    hub.commit({ ...ann, repo, title: "Late", parentCommit: one.commit.oid, operations: [{ operation: "delete", path: "x" }] }),
    412,
  );
});

// Above 10 MiB the test hub offers parts, where Xet is not used.
for (const [name, useXet, size] of [
  ["Xet", true, 3_000_000],
  ["Xet, several xorbs' worth", true, 24_000_000],
  ["LFS", false, 3_000_000],
  ["LFS in parts", false, 24_000_000],
]) {
  test(`a large file by ${name}`, async () => {
    const repo = await newRepo();
    const data = Buffer.concat([randomBytes(size / 2), Buffer.alloc(size / 4, 7), randomBytes(size / 4)]);
    const file = { path: "big/model.bin", content: new Blob([data]) };
    const events = await collect(hub.uploadFilesWithProgress({ ...ann, repo, files: [file], useXet }));
    const states = new Set(events.filter((event) => event.event === "fileProgress").map((event) => event.state));
    assert.ok(states.has("hashing") && states.has("uploading"), [...states].join());
    const info = await hub.fileDownloadInfo({ ...ann, repo, path: file.path });
    assert.equal(info.size, size);
    assert.equal(info.etag.replaceAll('"', ""), sha256(data));
    assert.ok(info.xet, "the client is shown the way by Xet");
    assert.match(info.xet.hash, /^[0-9a-f]{64}$/);
    const [path] = await hub.pathsInfo({ ...ann, repo, paths: [file.path], expand: true });
    assert.equal(path.lfs.oid, sha256(data));
    assert.equal(path.size, size);
    assert.equal(path.xetHash, info.xet.hash);
    for (const xet of [true, false]) {
      const blob = await hub.downloadFile({ ...ann, repo, path: file.path, xet });
      assert.equal(blob.size, size);
      const found = await bytesOf(blob);
      assert.equal(sha256(found), sha256(data), `xet: ${xet}`);
      const [start, end] = [size / 2 - 1000, size / 2 + 70_000];
      const part = await bytesOf(blob.slice(start, end));
      assert.ok(part.equals(data.subarray(start, end)), `a range, xet: ${xet}`);
    }
    // The same again is not sent again.
    await hub.uploadFile({ ...ann, repo, file: { path: "copy.bin", content: new Blob([data]) }, useXet });
    const copy = await hub.downloadFile({ ...ann, repo, path: "copy.bin" });
    assert.equal(sha256(await bytesOf(copy)), sha256(data));
    await hub.deleteFile({ ...ann, repo, path: "big/model.bin" });
    assert.equal(await hub.fileExists({ ...ann, repo, path: "big/model.bin" }), false);
  });
}

test("many files at once, small and large", async () => {
  const repo = await newRepo("dataset");
  const files = Array.from({ length: 130 }, (_, at) => ({ path: `data/${at}.txt`, content: new Blob([`text ${at}`]) }));
  const large = Array.from({ length: 4 }, (_, at) => ({ path: `data/${at}.bin`, content: new Blob([randomBytes(300_000)]) }));
  await hub.uploadFiles({ ...ann, repo, files: [...files, ...large] });
  const listed = await collect(hub.listFiles({ ...ann, repo, recursive: true }));
  assert.equal(listed.filter((file) => file.type === "file").length, 135);
  const blob = await hub.downloadFile({ ...ann, repo, path: "data/3.bin" });
  assert.deepEqual(await bytesOf(blob), await bytesOf(large[3].content));
});

// Node 18 aborts in a Blob of its own on the client's side.
const old = Number(process.versions.node.split(".")[0]) < 20;
test("an edit of a large file", { skip: old }, async () => {
  const repo = await newRepo();
  const data = randomBytes(4_000_000);
  await hub.uploadFile({ ...ann, repo, file: { path: "x.bin", content: new Blob([data]) } });
  const original = await hub.downloadFile({ ...ann, repo, path: "x.bin" });
  const edits = [{ start: 1_000_000, end: 1_000_010, content: new Blob(["0123456789"]) }];
  await hub.commit({
    ...ann,
    repo,
    title: "Edit",
    operations: [{ operation: "edit", path: "x.bin", originalContent: original, edits }],
  });
  const expected = Buffer.concat([data.subarray(0, 1_000_000), Buffer.from("0123456789"), data.subarray(1_000_010)]);
  const found = await bytesOf(await hub.downloadFile({ ...ann, repo, path: "x.bin" }));
  assert.equal(sha256(found), sha256(expected));
});

test("branches", async () => {
  const repo = await newRepo();
  await hub.createBranch({ ...ann, repo, branch: "feature/x" });
  await hub.uploadFile({ ...ann, repo, branch: "feature/x", file: { path: "x.txt", content: new Blob(["x"]) } });
  assert.equal(await hub.fileExists({ ...ann, repo, path: "x.txt", revision: "feature/x" }), true);
  assert.equal(await hub.fileExists({ ...ann, repo, path: "x.txt" }), false);
  const files = await collect(hub.listFiles({ ...ann, repo, revision: "feature/x" }));
  assert.deepEqual(files.map((file) => file.path).sort(), [".gitattributes", "x.txt"]);
  await hub.createBranch({ ...ann, repo, branch: "empty", empty: true });
  assert.equal(await hub.fileExists({ ...ann, repo, path: ".gitattributes", revision: "empty" }), false);
  await refused(hub.createBranch({ ...ann, repo, branch: "empty" }), 409);
  await hub.createBranch({ ...ann, repo, branch: "empty", revision: "feature/x", overwrite: true });
  assert.equal(await hub.fileExists({ ...ann, repo, path: "x.txt", revision: "empty" }), true);
  await hub.deleteBranch({ ...ann, repo, branch: "feature/x" });
  await refused(hub.deleteBranch({ ...ann, repo, branch: "feature/x" }), 404);
  await refused(hub.createBranch({ ...bob, repo, branch: "y" }), 403);
});

test("a stranger opens a pull request", async () => {
  const repo = await newRepo();
  await hub.uploadFile({ ...ann, repo, file: { path: "a.txt", content: new Blob(["one"]) } });
  const data = randomBytes(500_000);
  for (const useXet of [true, false]) {
    const files = [
      { path: "a.txt", content: new Blob(["two"]) },
      { path: `w-${useXet}.bin`, content: new Blob([data]) },
    ];
    const made = await hub.uploadFiles({ ...bob, repo, files, commitTitle: "Mine", isPullRequest: true, useXet });
    const number = Number(made.pullRequestUrl.split("/").at(-1));
    assert.ok(made.pullRequestUrl.startsWith(`${hubUrl}/${repo.name}/discussions/`), made.pullRequestUrl);
    const revision = `refs/pr/${number}`;
    const found = await hub.downloadFile({ ...ann, repo, path: `w-${useXet}.bin`, revision });
    assert.equal(sha256(await bytesOf(found)), sha256(data));
    const listed = await collect(hub.listFiles({ ...bob, repo, revision }));
    assert.ok(listed.some((file) => file.path === `w-${useXet}.bin`));
    assert.equal(await (await hub.downloadFile({ ...ann, repo, path: "a.txt" })).text(), "one");
  }
});

test("lists and information", async () => {
  const model = await newRepo();
  const card = "---\nlicense: mit\ntags: [js-tag]\npipeline_tag: text-classification\n---\n# Hi\n";
  await hub.uploadFile({ ...ann, repo: model, file: { path: "README.md", content: new Blob([card]) } });
  const dataset = await newRepo("dataset");
  const space = await newRepo("space", { sdk: "static" });
  const models = await collect(hub.listModels({ ...ann, search: { owner: "ann", tags: ["js-tag"] }, additionalFields: ["sha", "tags"] }));
  const found = models.find((entry) => entry.name === model.name);
  assert.ok(found.tags.includes("license:mit"));
  assert.match(found.sha, /^[0-9a-f]{40}$/);
  assert.equal(found.task, "text-classification");
  const named = await collect(hub.listModels({ ...ann, search: { query: model.name.split("/")[1] }, limit: 5 }));
  assert.deepEqual(named.map((entry) => entry.name), [model.name]);
  const datasets = await collect(hub.listDatasets({ ...ann, search: { owner: "ann" } }));
  assert.ok(datasets.some((entry) => entry.name === dataset.name));
  const spaces = await collect(hub.listSpaces({ ...ann, search: { owner: "ann" } }));
  assert.ok(spaces.some((entry) => entry.name === space.name && entry.sdk === "static"));
  const info = await hub.modelInfo({ ...ann, name: model.name, additionalFields: ["cardData", "sha"] });
  assert.equal(info.name, model.name);
  assert.equal(info.cardData.license, "mit");
  assert.equal((await hub.datasetInfo({ ...ann, name: dataset.name })).name, dataset.name);
  assert.equal((await hub.spaceInfo({ ...ann, name: space.name })).sdk, "static");
  await refused(hub.modelInfo({ ...ann, name: "ann/js-nothing" }), 404);
});

test("safetensors headers are read by ranges", async () => {
  const repo = await newRepo();
  const header = JSON.stringify({ w: { dtype: "F32", shape: [2, 3], data_offsets: [0, 24] } });
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(header.length));
  const content = new Blob([length, header, Buffer.alloc(24)]);
  await hub.uploadFile({ ...ann, repo, file: { path: "model.safetensors", content } });
  const parsed = await hub.parseSafetensorsMetadata({ ...ann, repo, computeParametersCount: true });
  assert.equal(parsed.sharded, false);
  assert.deepEqual(parsed.header.w.shape, [2, 3]);
  assert.deepEqual(parsed.parameterCount, { F32: 6 });
});

test("a snapshot and a file in the cache", async () => {
  const repo = await newRepo();
  const data = randomBytes(400_000);
  const files = [
    { path: "config.json", content: new Blob(["{}"]) },
    { path: "deep/weights.bin", content: new Blob([data]) },
  ];
  await hub.uploadFiles({ ...ann, repo, files });
  const cacheDir = await mkdtemp(join(tmpdir(), "bastide-js-"));
  try {
    const folder = await hub.snapshotDownload({ ...ann, repo, cacheDir });
    assert.equal(await readFile(join(folder, "config.json"), "utf8"), "{}");
    assert.deepEqual(await readFile(join(folder, "deep/weights.bin")), data);
    const file = await hub.downloadFileToCacheDir({ ...ann, repo, path: "config.json", cacheDir });
    assert.equal(await readFile(file, "utf8"), "{}");
  } finally {
    await rm(cacheDir, { recursive: true });
  }
});

test("collections", async () => {
  const repo = await newRepo();
  const title = `From JS ${count}`;
  const { slug } = await hub.createCollection({
    ...ann,
    collection: { title, namespace: "ann", description: "a few", private: false, item: { type: "model", id: repo.name } },
  });
  await refused(hub.createCollection({ ...ann, collection: { title, namespace: "ann" } }), 409);
  await refused(hub.createCollection({ ...bob, collection: { title, namespace: "ann" } }), 403);
  const search = { owner: ["ann"], item: [`models/${repo.name}`], q: "from js" };
  const found = await collect(hub.listCollections({ ...bob, search, sort: "lastModified", limit: 3 }));
  assert.equal(found.length, 1);
  assert.equal(found[0].slug, slug);
  assert.equal(found[0].items[0].id, repo.name);
  assert.equal(found[0].owner.name, "ann");
  await refused(hub.deleteCollection({ ...bob, slug }), 403);
  await hub.deleteCollection({ ...ann, slug });
  assert.deepEqual(await collect(hub.listCollections({ ...ann, search })), []);
});

test("what this hub does not serve is refused and not half done", async () => {
  await refused(hub.createRepo({ ...ann, repo: { type: "bucket", name: `ann/${newName()}` } }), 404);
});
