// A viewer of 3D Gaussian splats: projects, sorts and draws them as the rasteriser does, over a transparent canvas.
// `data` holds the number of splats, the degree of their harmonics, their values as base64 (little-endian floats: mean,
// covariance xx xy xz yy yz zz, opacity, harmonics), the side of the fitted pictures, and the cameras' radius and focal.
function splatViewer(canvas, data) {
  const gl = canvas.getContext("webgl2", { alpha: true, antialias: false, preserveDrawingBuffer: true });
  if (gl === null) return null;
  const bytes = Uint8Array.from(atob(data.values), (letter) => letter.charCodeAt(0));
  const values = new Float32Array(bytes.buffer);
  const basis = (data.degree + 1) ** 2, stride = 10 + 3 * basis, fields = 11;
  const instances = new Float32Array(data.number * fields), depths = new Float32Array(data.number);
  const order = Uint32Array.from({ length: data.number }, (_, index) => index);
  const program = gl.createProgram();
  const shaders = [
    [gl.VERTEX_SHADER, `#version 300 es
      in vec2 corner; in vec4 place; in vec3 conic; in vec4 paint;
      uniform float side;
      out vec2 offset; flat out vec3 shape; flat out vec4 colour;
      void main() {
        offset = corner * place.zw; shape = conic; colour = paint;
        vec2 at = (place.xy + offset) / side * 2.0 - 1.0;
        gl_Position = vec4(at.x, -at.y, 0.0, 1.0);
      }`],
    [gl.FRAGMENT_SHADER, `#version 300 es
      precision highp float;
      in vec2 offset; flat in vec3 shape; flat in vec4 colour;
      out vec4 fragment;
      void main() {
        float power = dot(shape, vec3(offset.x * offset.x, 2.0 * offset.x * offset.y, offset.y * offset.y));
        float alpha = min(0.999, colour.a * exp(-0.5 * power));
        if (alpha < 1.0 / 255.0) discard;
        fragment = vec4(colour.rgb * alpha, alpha);
      }`],
  ];
  for (const [kind, source] of shaders) {
    const shader = gl.createShader(kind);
    gl.shaderSource(shader, source);
    gl.compileShader(shader);
    if (!gl.getShaderParameter(shader, gl.COMPILE_STATUS)) throw new Error(gl.getShaderInfoLog(shader));
    gl.attachShader(program, shader);
  }
  gl.linkProgram(program);
  if (!gl.getProgramParameter(program, gl.LINK_STATUS)) throw new Error(gl.getProgramInfoLog(program));
  gl.useProgram(program);

  function attribute(name, size, buffer, bytesPerItem, offset, divisor) {
    const location = gl.getAttribLocation(program, name);
    gl.bindBuffer(gl.ARRAY_BUFFER, buffer);
    gl.enableVertexAttribArray(location);
    gl.vertexAttribPointer(location, size, gl.FLOAT, false, bytesPerItem, offset);
    gl.vertexAttribDivisor(location, divisor);
  }
  const corners = gl.createBuffer(), buffer = gl.createBuffer();
  gl.bindBuffer(gl.ARRAY_BUFFER, corners);
  gl.bufferData(gl.ARRAY_BUFFER, new Float32Array([-1, -1, 1, -1, -1, 1, 1, 1]), gl.STATIC_DRAW);
  gl.bindBuffer(gl.ARRAY_BUFFER, buffer);
  gl.bufferData(gl.ARRAY_BUFFER, instances.byteLength, gl.DYNAMIC_DRAW);
  attribute("corner", 2, corners, 8, 0, 0);
  attribute("place", 4, buffer, 4 * fields, 0, 1);
  attribute("conic", 3, buffer, 4 * fields, 16, 1);
  attribute("paint", 4, buffer, 4 * fields, 28, 1);
  gl.enable(gl.BLEND);
  gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);

  function harmonics(x, y, z) {
    const found = [0.28209479177387814];
    if (basis > 1) found.push(-0.4886025119029199 * y, 0.4886025119029199 * z, -0.4886025119029199 * x);
    if (basis > 4) found.push(
      1.0925484305920792 * x * y, -1.0925484305920792 * y * z, 0.31539156525252005 * (3 * z * z - 1),
      -1.0925484305920792 * x * z, 0.5462742152960396 * (x * x - y * y));
    if (basis > 9) found.push(
      -0.5900435899266435 * y * (3 * x * x - y * y), 2.890611442640554 * x * y * z,
      -0.4570457994644658 * y * (5 * z * z - 1), 0.3731763325901154 * z * (5 * z * z - 3),
      -0.4570457994644658 * x * (5 * z * z - 1), 1.445305721320277 * z * (x * x - y * y),
      -0.5900435899266435 * x * (x * x - 3 * y * y));
    return found;
  }

  function draw(azimuth, elevation, zoom) {
    const side = canvas.width, focal = data.focal * side * zoom;
    // pixels of a larger canvas show parts of the pixels that were fitted, so the blur covers several of them
    const blur = 0.3 * Math.max(1, side * zoom / data.side) ** 2;
    const [a, e] = [azimuth * Math.PI / 180, elevation * Math.PI / 180];
    const [sa, ca, se, ce] = [Math.sin(a), Math.cos(a), Math.sin(e), Math.cos(e)];
    const right = [ca, 0, -sa], down = [sa * se, -ce, ca * se], forward = [-sa * ce, -se, -ca * ce];
    const eye = forward.map((each) => -each * data.radius);
    for (let index = 0; index < data.number; index++) {
      const at = index * stride;
      depths[index] = forward[0] * (values[at] - eye[0]) + forward[1] * (values[at + 1] - eye[1])
        + forward[2] * (values[at + 2] - eye[2]);
    }
    order.sort((one, other) => depths[other] - depths[one]);
    let drawn = 0;
    for (const index of order) {
      const at = index * stride, depth = depths[index], out = drawn * fields, opacity = values[at + 9];
      if (depth <= 0.01 || opacity < 1 / 255) continue;
      const [x, y, z] = [values[at] - eye[0], values[at + 1] - eye[1], values[at + 2] - eye[2]];
      const u = (right[0] * x + right[1] * y + right[2] * z) / depth;
      const v = (down[0] * x + down[1] * y + down[2] * z) / depth;
      const margin = 1.3 * 0.5 / (data.focal * zoom);
      const [cu, cv] = [u, v].map((each) => Math.max(-margin, Math.min(margin, each)));
      const scale = focal / depth;
      const rows = [right, down].map((axis, number) =>
        axis.map((each, part) => scale * (each - (number ? cv : cu) * forward[part])));
      const [c0, c1, c2, c3, c4, c5] = values.subarray(at + 3, at + 9);
      const turned = rows.map(([p, q, r]) => [c0 * p + c1 * q + c2 * r, c1 * p + c3 * q + c4 * r, c2 * p + c4 * q + c5 * r]);
      const dot = (one, other) => one[0] * other[0] + one[1] * other[1] + one[2] * other[2];
      const xx = dot(rows[0], turned[0]) + blur, xy = dot(rows[0], turned[1]), yy = dot(rows[1], turned[1]) + blur;
      const determinant = xx * yy - xy * xy, reach = 2 * Math.log(255 * opacity);
      instances[out] = focal * u + side / 2;
      instances[out + 1] = focal * v + side / 2;
      instances[out + 2] = Math.sqrt(reach * xx);
      instances[out + 3] = Math.sqrt(reach * yy);
      instances[out + 4] = yy / determinant;
      instances[out + 5] = -xy / determinant;
      instances[out + 6] = xx / determinant;
      const length = Math.hypot(x, y, z), weights = harmonics(x / length, y / length, z / length);
      for (let channel = 0; channel < 3; channel++) {
        let colour = 0.5;
        for (let number = 0; number < basis; number++) colour += weights[number] * values[at + 10 + 3 * number + channel];
        instances[out + 7 + channel] = Math.max(0, colour);
      }
      instances[out + 10] = opacity;
      drawn += 1;
    }
    gl.viewport(0, 0, side, side);
    gl.clearColor(0, 0, 0, 0);
    gl.clear(gl.COLOR_BUFFER_BIT);
    gl.uniform1f(gl.getUniformLocation(program, "side"), side);
    gl.bindBuffer(gl.ARRAY_BUFFER, buffer);
    gl.bufferSubData(gl.ARRAY_BUFFER, 0, instances.subarray(0, drawn * fields));
    gl.drawArraysInstanced(gl.TRIANGLE_STRIP, 0, 4, drawn);
  }
  return draw;
}

// Turns the splats in a canvas by mouse, touch and keys; `shown` gets the angles, `spin` is a button that rotates them.
function splatControls(canvas, data, shown, spin) {
  const draw = splatViewer(canvas, data), pointers = new Map();
  if (draw === null) return false;
  let azimuth = 0, elevation = 0, zoom = 1, waiting = false, spinning = false, apart = 0;

  function render() {
    waiting = false;
    if (spinning) turn(azimuth + 1, elevation);
    draw(azimuth, elevation, zoom);
    canvas.dataset.azimuth = azimuth.toFixed(1);
    canvas.dataset.elevation = elevation.toFixed(1);
    canvas.dataset.moving = String(waiting);
    shown.textContent = `azimuth ${Math.round(azimuth)}°, elevation ${Math.round(elevation)}°`;
  }
  function turn(toAzimuth, toElevation) {
    azimuth = ((toAzimuth + 180) % 360 + 360) % 360 - 180;
    elevation = Math.max(-89, Math.min(89, toElevation));
    request();
  }
  function zoomTo(factor) {
    zoom = Math.max(0.5, Math.min(6, factor));
    request();
  }
  function request() {
    if (!waiting) requestAnimationFrame(render);
    waiting = true;
    canvas.dataset.moving = "true";
  }
  function spinTo(on) {
    spinning = on;
    spin.setAttribute("aria-pressed", String(on));
    request();
  }
  function distance() {
    const [one, other] = [...pointers.values()];
    return Math.hypot(one.x - other.x, one.y - other.y);
  }
  canvas.addEventListener("pointerdown", (event) => {
    spinTo(false);
    pointers.set(event.pointerId, { x: event.clientX, y: event.clientY });
    canvas.setPointerCapture(event.pointerId);
    if (pointers.size === 2) apart = distance();
  });
  canvas.addEventListener("pointermove", (event) => {
    const before = pointers.get(event.pointerId);
    if (before === undefined) return;
    pointers.set(event.pointerId, { x: event.clientX, y: event.clientY });
    if (pointers.size === 2) {
      zoomTo(zoom * distance() / apart);
      apart = distance();
    } else turn(azimuth - (event.clientX - before.x) * 0.6, elevation + (event.clientY - before.y) * 0.4);
  });
  for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, (event) => pointers.delete(event.pointerId));
  canvas.addEventListener("wheel", (event) => {
    zoomTo(zoom * Math.exp(-0.001 * event.deltaY));
    event.preventDefault();
  }, { passive: false });
  canvas.addEventListener("keydown", (event) => {
    const moves = { ArrowLeft: [-5, 0], ArrowRight: [5, 0], ArrowUp: [0, 5], ArrowDown: [0, -5] };
    if (event.key === "Home") { zoomTo(1); turn(0, 0); }
    else if (event.key === "+") zoomTo(zoom * 1.1);
    else if (event.key === "-") zoomTo(zoom / 1.1);
    else if (event.key in moves) turn(azimuth + moves[event.key][0], elevation + moves[event.key][1]);
    else return;
    spinTo(false);
    event.preventDefault();
  });
  spin.addEventListener("click", () => spinTo(!spinning));
  render();
  return true;
}
