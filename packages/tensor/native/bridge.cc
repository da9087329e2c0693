/**
 * @file The one file that knows TensorFlow: turns each `Kernel` row into a registered operator and a CPU kernel.
 *
 * Registration happens when the addon is loaded. TensorFlow keeps pointers into this library, so it must stay loaded
 * until the process ends (it is linked into the Node addon, which Node never unloads).
 *
 * Licensed under the Apache License, Version 2.0.
 */
#include <algorithm>
#include <cstring>
#include <map>
#include <memory>

#include "kernel.h"
#include "kernels.h"
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/resource_mgr.h"
#include "tensorflow/core/framework/resource_var.h"

#if defined(__GLIBC__)
#include <malloc.h>
#endif

namespace moebius {

namespace tf = tensorflow;

namespace {

const std::map<std::string, Kernel>& kernelsByName() {
  static const auto* table = [] {
    auto* map = new std::map<std::string, Kernel>();
    for (const Kernel& kernel : allKernels()) (*map)[kernel.name] = kernel;
    return map;
  }();
  return *table;
}

template <typename T>
View<T> viewOf(const tf::Tensor& tensor, int input) {
  require(tensor.dtype() == tf::DataTypeToEnum<T>::value, "input ", input, ": must be ",
          tf::DataTypeString(tf::DataTypeToEnum<T>::value), ", got ", tf::DataTypeString(tensor.dtype()));
  require(tensor.dims() <= 4, "input ", input, ": must have rank at most 4, got ", tensor.dims());
  View<T> view;
  view.data = static_cast<const T*>(tensor.data());
  view.rank = tensor.dims();
  view.size = tensor.NumElements();
  for (int d = 0; d < view.rank; ++d) view.dims[d] = tensor.dim_size(d);
  return view;
}

/// Attributes of one operator instance, read once.
struct Attributes {
  std::map<std::string, int64_t> integers;
  std::map<std::string, float> numbers;
  std::map<std::string, std::string> strings;
};

class TensorFlowContext final : public Context {
 public:
  TensorFlowContext(tf::OpKernelContext* context, const Attributes& attributes)
      : context_(context), attributes_(attributes), workers_(context->device()->tensorflow_cpu_worker_threads()) {}

  ~TensorFlowContext() override {
    for (auto it = locked_.rbegin(); it != locked_.rend(); ++it) (*it)->mu()->unlock();
  }

  Floats floats(int input) override { return viewOf<float>(context_->input(input), input); }
  Ints ints(int input) override { return viewOf<int32_t>(context_->input(input), input); }

  std::vector<Variable> variables(const std::vector<int>& inputs) override {
    std::vector<tf::Var*> order;
    for (int input : inputs) {
      tf::core::RefCountPtr<tf::Var> var;
      check(tf::LookupResource(context_, tf::HandleFromInput(context_, input), &var));
      order.push_back(var.get());
      held_.push_back(std::move(var));
    }
    std::vector<tf::Var*> sorted = order;
    std::sort(sorted.begin(), sorted.end(), [](tf::Var* a, tf::Var* b) { return a->mu() < b->mu(); });
    require(std::adjacent_find(sorted.begin(), sorted.end()) == sorted.end(),
            "variables: each must be given once, got one twice");
    for (tf::Var* var : sorted) {
      var->mu()->lock();
      locked_.push_back(var);
    }
    std::vector<Variable> result;
    for (size_t i = 0; i < order.size(); ++i) {
      tf::Tensor* tensor = order[i]->tensor();
      require(order[i]->is_initialized && tensor->dtype() == tf::DT_FLOAT, "input ", inputs[i],
              ": must be an initialised float32 variable");
      unshare(order[i]);
      result.push_back({static_cast<float*>(tensor->data()), tensor->NumElements()});
    }
    return result;
  }

  float* output(int index, std::initializer_list<int64_t> dims) override { return make<float>(index, dims); }
  int32_t* intOutput(int index, std::initializer_list<int64_t> dims) override { return make<int32_t>(index, dims); }

  float* temporary(int64_t count) override {
    tf::Tensor tensor;
    check(context_->allocate_temp(tf::DT_FLOAT, tf::TensorShape({std::max<int64_t>(count, 1)}), &tensor));
    temporaries_.push_back(tensor);
    return static_cast<float*>(tensor.data());
  }

  int64_t integer(const char* name) override { return attributes_.integers.at(name); }
  float number(const char* name) override { return attributes_.numbers.at(name); }
  const std::string& string(const char* name) override { return attributes_.strings.at(name); }
  int threads() override { return workers_->num_threads; }
  void schedule(std::function<void()> work) override { workers_->workers->Schedule(std::move(work)); }

 private:
  static void check(const absl::Status& status) {
    if (!status.ok()) throw BadInput(std::string(status.message()));
  }

  template <typename T>
  T* make(int index, std::initializer_list<int64_t> dims) {
    tf::Tensor* tensor = nullptr;
    check(context_->allocate_output(index, tf::TensorShape(std::vector<int64_t>(dims)), &tensor));
    return static_cast<T*>(tensor->data());
  }

  /// TensorFlow's PrepareToUpdateVariable rule: a buffer that a read still holds is copied before it is written.
  void unshare(tf::Var* var) {
    tf::Tensor* tensor = var->tensor();
    if (!var->copy_on_read_mode.load() && tensor->RefCountIsOne()) return;
    tf::Tensor copy;
    check(context_->allocate_temp(tensor->dtype(), tensor->shape(), &copy));
    std::memcpy(copy.data(), tensor->data(), tensor->TotalBytes());
    *tensor = copy;
  }

  tf::OpKernelContext* context_;
  const Attributes& attributes_;
  const tf::DeviceBase::CpuWorkerThreads* workers_;
  std::vector<tf::core::RefCountPtr<tf::Var>> held_;
  std::vector<tf::Var*> locked_;
  std::vector<tf::Tensor> temporaries_;
};

/// Any of our operators; which one is decided by the node's type.
class BridgeKernel final : public tf::OpKernel {
 public:
  explicit BridgeKernel(tf::OpKernelConstruction* construction)
      : tf::OpKernel(construction), run_(kernelsByName().at(std::string(type_string())).run) {
    for (const auto& [name, value] : construction->def().attr()) {
      if (value.value_case() == tf::AttrValue::kI) attributes_.integers[std::string(name)] = value.i();
      if (value.value_case() == tf::AttrValue::kF) attributes_.numbers[std::string(name)] = value.f();
      if (value.value_case() == tf::AttrValue::kS) attributes_.strings[std::string(name)] = std::string(value.s());
    }
  }

  void Compute(tf::OpKernelContext* context) override {
    try {
      TensorFlowContext bridge(context, attributes_);
      run_(bridge);
    } catch (const BadInput& error) {
      context->SetStatus(tf::errors::InvalidArgument(std::string(type_string()), ": ", error.what()));
    } catch (const std::bad_alloc&) {
      context->SetStatus(tf::errors::ResourceExhausted(std::string(type_string()), ": out of memory"));
    }
  }

 private:
  void (*run_)(Context&);
  Attributes attributes_;
};

bool registerAll() {
#if defined(__GLIBC__)
  // Freed tensors stay with the process: a training step frees and makes the same sizes again, and fresh pages from the
  // kernel cost more than the arithmetic of a small layer.
  mallopt(M_MMAP_THRESHOLD, 1 << 30);
  mallopt(M_TRIM_THRESHOLD, 1 << 30);
#endif
  for (const auto& [name, kernel] : kernelsByName()) {
    tf::register_op::OpDefBuilderWrapper builder(kernel.name);
    for (const char* input : kernel.inputs) builder.Input(input);
    for (const char* attribute : kernel.attributes) builder.Attr(attribute);
    for (const char* output : kernel.outputs) builder.Output(output);
    if (kernel.outputs.empty()) builder.SetIsStateful();
    builder.SetShapeFn([](tf::shape_inference::InferenceContext*) { return absl::OkStatus(); });
    (void)builder();
    tf::kernel_factory::OpKernelRegistrar(
        tf::KernelDefBuilder(kernel.name).Device(tf::DEVICE_CPU).Build(), "MoebiusBridgeKernel",
        [](tf::OpKernelConstruction* construction) -> tf::OpKernel* { return new BridgeKernel(construction); });
  }
  return true;
}

const bool registered = registerAll();

}  // namespace

}  // namespace moebius
