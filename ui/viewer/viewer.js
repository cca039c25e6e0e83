// Three linked planes of one case. Radiological: the patient's right is on the left.
"use strict";

const [, , language, caseId] = location.pathname.split("/");
const at = (id) => document.getElementById(id);
const state = { words: {}, nv: null, labels: null };

function colourTable(colours) {
  // Label 0 is clear; the others have the colours of the pictures.
  const table = { R: [0], G: [0], B: [0], A: [0], I: [0], labels: [""] };
  colours.forEach((colour, n) => {
    [table.R, table.G, table.B].forEach((channel, at) => {
      channel.push(parseInt(colour.slice(1 + 2 * at, 3 + 2 * at), 16));
    });
    table.A.push(255); table.I.push(n + 1); table.labels.push(state.words.regions[n + 1]);
  });
  return table;
}

function labelAt(mm) {
  if (!state.labels) return 0;
  const [i, j, k] = state.labels.mm2vox(mm);
  return state.labels.getValue(i, j, k);
}

function tell(location) {
  const mm = location.mm.slice(0, 3);
  const name = state.words.regions[labelAt(mm)] || state.words.nothing;
  at("region").textContent = name;
  const [x, y, z] = mm.map((value) => Math.abs(value).toFixed(0));
  at("millimetres").textContent =
    `${mm[0] < 0 ? state.words.L : state.words.R} ${x} · ${mm[1] < 0 ? "P" : "A"} ${y} · ${mm[2] < 0 ? "I" : "S"} ${z} mm`;
  document.body.dataset.region = name;
  document.body.dataset.mm = mm.map((value) => value.toFixed(1)).join(" ");
}

function centreOf(label) {
  // The voxel of the region nearest to its centre of mass, so that the crosshair is inside it.
  const volume = state.labels;
  const [, nx, ny, nz] = volume.dimsRAS;
  const voxels = [];
  const sum = [0, 0, 0];
  for (let k = 0; k < nz; k += 1)
    for (let j = 0; j < ny; j += 1)
      for (let i = 0; i < nx; i += 1)
        if (volume.getValue(i, j, k) === label) {
          voxels.push([i, j, k]);
          sum[0] += i; sum[1] += j; sum[2] += k;
        }
  if (!voxels.length) return null;
  const mean = sum.map((value) => value / voxels.length);
  const far = (voxel) => voxel.reduce((total, value, axis) => total + (value - mean[axis]) ** 2, 0);
  return voxels.reduce((best, voxel) => (far(voxel) < far(best) ? voxel : best));
}

function goTo(mm) {
  state.nv.scene.crosshairPos = state.nv.mm2frac(mm);
  state.nv.createOnLocationChange();
  state.nv.drawScene();
}

function showRegion(label) {
  const voxel = state.labels && centreOf(label);
  if (!voxel) return;
  const mm = state.labels.vox2mm(voxel, state.labels.matRAS);
  goTo([mm[0], mm[1], mm[2]]);
}

function showOverlay() {
  if (!state.labels) return;
  const shown = at("overlay").checked;
  state.nv.setOpacity(1, shown ? Number(at("opacity").value) : 0);
}

function connect() {
  at("overlay").addEventListener("change", showOverlay);
  at("opacity").addEventListener("input", showOverlay);
  at("centre").addEventListener("click", () => goTo([0, 0, 0]));
  addEventListener("message", (event) => {
    if (event.origin !== location.origin || !event.data) return;
    if (Number.isInteger(event.data.region)) showRegion(event.data.region);
  });
}

function write(words) {
  state.words = words;
  document.documentElement.lang = language;
  at("message").textContent = words.loading;
  at("under").textContent = words.under;
  at("overlay-name").textContent = words.overlay;
  at("opacity-name").textContent = words.opacity;
  at("centre").textContent = words.reset;
  at("convention").textContent = words.convention;
}

async function loadRegions() {
  const response = await fetch(`/scan/${caseId}/regions.nii.gz`, { method: "HEAD" });
  if (!response.ok) return;
  await state.nv.addVolumeFromUrl({ url: `/scan/${caseId}/regions.nii.gz`, opacity: 0 });
  state.labels = state.nv.volumes[1];
  state.labels.setColormapLabel(colourTable(state.words.colours));
  state.nv.setInterpolation(false);
  state.nv.updateGLVolume();
}

async function start() {
  write(await (await fetch(`/viewer/${language}.json`)).json());
  connect();
  const nv = new niivue.Niivue({
    backColor: [0, 0, 0, 1], crosshairColor: [0.18, 0.83, 0.75, 0.8], crosshairWidth: 0.7, crosshairWidthUnit: "mm",
    isRadiologicalConvention: true, sagittalNoseLeft: true, isOrientationTextVisible: true, show3Dcrosshair: false,
    isSliceMM: false, multiplanarShowRender: 0, multiplanarLayout: 2, multiplanarEqualSize: true,
    loadingText: "", showAllOrientationMarkers: true, fontColor: [0.95, 0.85, 0.45, 1], fontMinPx: 15, dragAndDropEnabled: false, logLevel: "error",
    isColorbar: false,
  });
  state.nv = nv;
  nv.onLocationChange = tell;
  await nv.attachToCanvas(at("scan"));
  nv.setSliceType(nv.sliceTypeMultiplanar);
  nv.setRadiologicalConvention(true);
  await nv.loadVolumes([{ url: `/scan/${caseId}/T1w.nii.gz`, colormap: "gray" }]);
  await loadRegions();
  goTo([0, 0, 0]);
  at("message").textContent = "";
  document.body.dataset.ready = state.labels ? "regions" : "scan";
}

start().catch((error) => { at("message").textContent = state.words.failed + error.message; });
