;; AdamW over float32 arrays in this module's memory, four elements at a time.
;; All byte counts are multiples of 32. Names follow torch.optim.AdamW.
(module
  (import "env" "memory" (memory 1 65536))

  ;; Sum of squares of `bytes` bytes at `x`, a multiple of 32, in eight float32 sums: the caller adds pieces up in float64.
  (func (export "sumOfSquares") (param $x i32) (param $bytes i32) (result f64)
    (local $end i32) (local $even v128) (local $odd v128) (local $value v128)
    (local.set $end (i32.add (local.get $x) (local.get $bytes)))
    (block $done
      (loop $next
        (br_if $done (i32.ge_u (local.get $x) (local.get $end)))
        (local.set $value (v128.load (local.get $x)))
        (local.set $even (f32x4.add (local.get $even) (f32x4.mul (local.get $value) (local.get $value))))
        (local.set $value (v128.load offset=16 (local.get $x)))
        (local.set $odd (f32x4.add (local.get $odd) (f32x4.mul (local.get $value) (local.get $value))))
        (local.set $x (i32.add (local.get $x) (i32.const 32)))
        (br $next)))
    (local.set $even (f32x4.add (local.get $even) (local.get $odd)))
    (f64.add
      (f64.add (f64.promote_f32 (f32x4.extract_lane 0 (local.get $even))) (f64.promote_f32 (f32x4.extract_lane 1 (local.get $even))))
      (f64.add (f64.promote_f32 (f32x4.extract_lane 2 (local.get $even))) (f64.promote_f32 (f32x4.extract_lane 3 (local.get $even))))))

  ;; g = scale * g
  ;; m = beta1 * m + (1 - beta1) * g
  ;; v = beta2 * v + (1 - beta2) * g * g
  ;; p = keep * p - stepSize * m / (sqrt(v) * vScale + epsilon)
  (func (export "adamw")
    (param $p i32) (param $g i32) (param $m i32) (param $v i32) (param $bytes i32)
    (param $scale f32) (param $beta1 f32) (param $rest1 f32) (param $beta2 f32) (param $rest2 f32)
    (param $keep f32) (param $stepSize f32) (param $vScale f32) (param $epsilon f32)
    (local $end i32) (local $gradient v128) (local $mean v128) (local $variance v128)
    (local.set $end (i32.add (local.get $p) (local.get $bytes)))
    (block $done
      (loop $next
        (br_if $done (i32.ge_u (local.get $p) (local.get $end)))
        (local.set $gradient (f32x4.mul (v128.load (local.get $g)) (f32x4.splat (local.get $scale))))
        (local.set $mean (f32x4.add
          (f32x4.mul (v128.load (local.get $m)) (f32x4.splat (local.get $beta1)))
          (f32x4.mul (local.get $gradient) (f32x4.splat (local.get $rest1)))))
        (local.set $variance (f32x4.add
          (f32x4.mul (v128.load (local.get $v)) (f32x4.splat (local.get $beta2)))
          (f32x4.mul (f32x4.mul (local.get $gradient) (local.get $gradient)) (f32x4.splat (local.get $rest2)))))
        (v128.store (local.get $m) (local.get $mean))
        (v128.store (local.get $v) (local.get $variance))
        (v128.store (local.get $p) (f32x4.sub
          (f32x4.mul (v128.load (local.get $p)) (f32x4.splat (local.get $keep)))
          (f32x4.div
            (f32x4.mul (local.get $mean) (f32x4.splat (local.get $stepSize)))
            (f32x4.add
              (f32x4.mul (f32x4.sqrt (local.get $variance)) (f32x4.splat (local.get $vScale)))
              (f32x4.splat (local.get $epsilon))))))
        (local.set $p (i32.add (local.get $p) (i32.const 16)))
        (local.set $g (i32.add (local.get $g) (i32.const 16)))
        (local.set $m (i32.add (local.get $m) (i32.const 16)))
        (local.set $v (i32.add (local.get $v) (i32.const 16)))
        (br $next))))

  ;; average = decay * average + (1 - decay) * p
  (func (export "average") (param $average i32) (param $p i32) (param $bytes i32) (param $decay f32) (param $rest f32)
    (local $end i32)
    (local.set $end (i32.add (local.get $p) (local.get $bytes)))
    (block $done
      (loop $next
        (br_if $done (i32.ge_u (local.get $p) (local.get $end)))
        (v128.store (local.get $average) (f32x4.add
          (f32x4.mul (v128.load (local.get $average)) (f32x4.splat (local.get $decay)))
          (f32x4.mul (v128.load (local.get $p)) (f32x4.splat (local.get $rest)))))
        (local.set $average (i32.add (local.get $average) (i32.const 16)))
        (local.set $p (i32.add (local.get $p) (i32.const 16)))
        (br $next)))))
